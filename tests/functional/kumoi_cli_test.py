#!/usr/bin/python3
"""The kumoi client against one kumoi-compute with the simulated driver, and its host-local commands
while that is stopped. Exit codes are part of the promise."""
import json
import os
import subprocess
import tempfile
import unittest

from cloud import CLI, Cloud

DONE, FAILED, USAGE, NOT_FOUND, CONFLICT, REFUSED, TIMEOUT, UNREACHABLE = range(8)


class Kumoi(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cloud = Cloud()
        cls.addClassCleanup(cls.cloud.remove)
        cls.cloud.start()
        cls.addClassCleanup(cls.cloud.stop)
        os_ = cls.cloud.openstack
        with tempfile.NamedTemporaryFile() as image:
            image.write(b"x" * 4096)
            image.flush()
            os_("image", "create", "alpine-3.20", "--disk-format", "raw", "--container-format", "bare",
                "--file", image.name)
        for name, ram in (("m1.big", "4096"), ("m1.tiny", "128"), ("m1.huge", "99999999")):
            os_("flavor", "create", name, "--vcpus", "1", "--ram", ram, "--disk", "1")
        os_("network", "create", "lan")
        os_("subnet", "create", "lan4", "--network", "lan", "--subnet-range", "10.0.3.0/24")

    def kumoi(self, *argv, status=DONE):
        """stdout of one run that must end with this status; stderr in self.err."""
        names = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
        run = subprocess.run([str(CLI), "--state-path", str(self.cloud.state), *argv], env=names, timeout=60,
                             stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.err = run.stderr
        self.assertEqual(run.returncode, status, f"{argv}: {run.stdout}\n{run.stderr}")
        return run.stdout

    def launch(self, name, *more):
        self.addCleanup(self.cloud.run, "server", "delete", "--wait", name, check=False)
        return self.kumoi("server", "launch", "alpine", name, *more)

    def test_launch_to_delete(self):
        address = self.launch("web-1", "-f", "value", "-c", "ADDRESS").strip()
        self.assertTrue(address.startswith("10.0.3."), address)
        self.assertIn("flavor m1.tiny", self.err)
        self.assertIn("active in", self.err)
        listed = json.loads(self.kumoi("server", "list", "-f", "json"))
        self.assertEqual([(row["name"], row["status"]) for row in listed], [("web-1", "ACTIVE")])
        for verb, status in (("stop", "SHUTOFF"), ("start", "ACTIVE"), ("pause", "PAUSED"), ("unpause", "ACTIVE"),
                             ("reboot", "ACTIVE")):
            self.kumoi("server", verb, "web")
            shown = self.kumoi("server", "show", "web-1", "-f", "value", "-c", "STATUS")
            self.assertEqual(shown.strip(), status, verb)
        self.kumoi("server", "log", "web-1")
        self.kumoi("server", "delete", "web-1")
        self.assertEqual(json.loads(self.kumoi("server", "list", "-f", "json")), [])

    def test_what_a_server_is_made_of(self):
        self.launch("made-1", "--flavor", "m1.tiny")

        def status():
            return self.kumoi("server", "show", "made-1", "-f", "value", "-c", "STATUS").strip()
        for argv, expected in ((("suspend",), "SUSPENDED"), (("resume",), "ACTIVE"), (("rescue",), "RESCUE"),
                               (("unrescue",), "ACTIVE"), (("rebuild", "--image", "alpine"), "ACTIVE"),
                               (("shelve",), "SHELVED_OFFLOADED"), (("unshelve",), "ACTIVE")):
            self.kumoi("server", argv[0], "made-1", *argv[1:])
            self.assertEqual(status(), expected, argv)
        self.kumoi("server", "resize", "made-1", "m1.big")
        self.assertIn("kumoi server revert made-1", self.err)
        self.kumoi("server", "revert", "made-1")
        self.kumoi("server", "resize", "made-1", "m1.big", "--confirm")
        self.assertIn("m1.big", self.kumoi("server", "show", "made-1"))
        image = self.kumoi("server", "image", "create", "made-1", "--name", "of-made-1").strip()
        self.assertEqual(self.cloud.openstack("image", "show", image, "-f", "json")["status"], "active")
        self.kumoi("server", "lock", "made-1", "--reason", "audit")
        self.kumoi("server", "unlock", "made-1")
        self.kumoi("server", "resume", "made-1", status=CONFLICT)
        self.assertIn("Cannot 'resume' instance", self.err)

    def test_templates(self):
        self.launch("golden", "--flavor", "m1.big")
        self.kumoi("template", "create", "golden", "gold", status=CONFLICT)
        self.assertIn("kumoi server stop golden", self.err)
        self.kumoi("server", "stop", "golden")
        image = self.kumoi("template", "create", "golden", "gold").strip()
        self.assertTrue(self.cloud.openstack("image", "show", image, "-f", "json")["protected"])
        self.kumoi("server", "delete", "golden")
        listed = json.loads(self.kumoi("template", "list", "-f", "json"))
        self.assertEqual([row["name"] for row in listed], ["gold"])
        self.addCleanup(self.cloud.run, "server", "delete", "--wait", "copy-1", check=False)
        self.kumoi("template", "launch", "gold", "copy-1")
        self.assertIn("flavor m1.big", self.err)
        self.kumoi("template", "launch", "alpine", "copy-2", status=NOT_FOUND)  # an image is none
        self.kumoi("template", "delete", "gold")
        self.assertEqual(json.loads(self.kumoi("template", "list", "-f", "json")), [])
        self.kumoi("server", "show", "copy-1")

    def test_refusals_have_codes_and_reasons(self):
        self.kumoi("server", "show", "nothing", status=NOT_FOUND)
        self.kumoi("server", "launch", "nothing", "x", status=NOT_FOUND)
        self.kumoi("server", "frobnicate", status=USAGE)
        self.cloud.openstack("quota", "set", "--ram", "-1", "admin")
        self.addCleanup(self.cloud.run, "server", "delete", "--wait", "big-1", check=False)
        self.kumoi("server", "launch", "alpine", "big-1", "--flavor", "m1.huge", status=REFUSED)
        for word in ("cn-1", "RamFilter", "99999999"):
            self.assertIn(word, self.err)
        self.launch("twin-1", "--no-wait")
        self.launch("twin-2", "--no-wait")
        self.kumoi("server", "show", "twin", status=CONFLICT)
        self.assertIn("twin-1", self.err)

    def test_lists(self):
        for noun, name in (("image", "alpine-3.20"), ("flavor", "m1.tiny"), ("network", "lan"), ("host", "cn-1")):
            self.assertIn(name, self.kumoi(noun, "list", "-f", "value", "-c", "NAME"), noun)
            self.kumoi(noun, "show", name)

    def test_unreachable(self):
        self.cloud.stop()
        self.addCleanup(self.cloud.start)
        self.kumoi("server", "list", status=UNREACHABLE)
        self.kumoi("vm", "list")

    def test_config_through_the_daemon(self):
        sample = self.cloud.state / "sample.conf"
        sample.write_text(self.kumoi("config", "sample"))
        self.kumoi("config", "validate", str(sample))
        sample.write_text("[identity]\nadmin_password = s3cret\ntoken_expiraton = 5\n")
        self.kumoi("config", "validate", str(sample), status=USAGE)
        self.assertIn("token_expiration", self.err)
        self.assertNotIn("s3cret", self.kumoi("config", "show", str(sample)))

    def test_completion_is_valid_shell(self):
        for shell in ("bash", "zsh", "fish"):
            script = self.kumoi("completion", shell)
            self.assertIn("launch", script)
        subprocess.run(["bash", "-n"], input=self.kumoi("completion", "bash"), text=True, check=True)


if __name__ == "__main__":
    unittest.main()
