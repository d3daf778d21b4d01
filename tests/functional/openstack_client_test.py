#!/usr/bin/python3
"""Every command the README promises, from Debian's python3-openstackclient, unchanged, against one
kumoi-compute with the simulated driver."""
import hashlib
import os
import pathlib
import tempfile
import unittest

from cloud import Cloud

IMAGE = os.urandom(3 << 20)


class StockClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cloud = Cloud()
        cls.addClassCleanup(cls.cloud.remove)
        cls.cloud.start()
        cls.addClassCleanup(cls.cloud.stop)
        cls.folder = pathlib.Path(tempfile.mkdtemp(dir=cls.cloud.state))
        (cls.folder / "disk.img").write_bytes(IMAGE)
        (cls.folder / "user-data").write_text("#!/bin/sh\necho hi\n")
        os_ = cls.cloud.openstack
        cls.kernel = os_("image", "create", "kernel", "--disk-format", "aki", "--container-format", "aki",
                         "--file", str(cls.folder / "disk.img"), "-f", "json")
        cls.image = os_("image", "create", "tiny", "--disk-format", "raw", "--container-format", "bare",
                        "--property", f"kernel_id={cls.kernel['id']}", "--file", str(cls.folder / "disk.img"),
                        "-f", "json")
        cls.flavor = os_("flavor", "create", "m1.tiny", "--vcpus", "1", "--ram", "128", "--disk", "1", "-f", "json")
        cls.network = os_("network", "create", "private", "-f", "json")
        os_("subnet", "create", "private-v4", "--network", "private", "--subnet-range", "10.0.3.0/24", "-f", "json")
        cls.key = os_("keypair", "create", "mine", "-f", "value")

    def os(self, *argv):
        return self.cloud.openstack(*argv)

    def create(self, name, *more):
        self.os("server", "create", name, "--wait", "--image", "tiny", "--flavor", "m1.tiny",
                "--network", "private", "--key-name", "mine",
                "--user-data", str(self.folder / "user-data"), *more)
        self.addCleanup(self.cloud.run, "server", "delete", "--wait", name, check=False)
        return self.os("server", "show", name, "-f", "json")

    def names(self, *argv):
        return {row["Name"] for row in self.os(*argv, "-f", "json")}

    def test_token_and_catalog(self):
        token = self.os("token", "issue", "-f", "json")
        self.assertTrue(token["id"] and token["expires"] and token["project_id"])
        catalog = {row["Type"] for row in self.os("catalog", "list", "-f", "json")}
        self.assertLessEqual({"identity", "compute", "image", "network"}, catalog)

    def test_images(self):
        self.assertLessEqual({"kernel", "tiny"}, self.names("image", "list"))
        shown = self.os("image", "show", "tiny", "-f", "json")
        self.assertEqual((shown["status"], shown["size"]), ("active", len(IMAGE)))
        self.assertEqual(shown["checksum"], hashlib.md5(IMAGE).hexdigest())
        self.os("image", "save", "tiny", "--file", str(self.folder / "saved"))
        self.assertEqual((self.folder / "saved").read_bytes(), IMAGE)
        self.os("image", "set", "tiny", "--property", "os_distro=kumoi")
        self.assertEqual(self.os("image", "show", "tiny", "-f", "json")["properties"]["os_distro"], "kumoi")

    def test_flavors_and_networks(self):
        self.assertIn("m1.tiny", self.names("flavor", "list"))
        self.assertIn("private", self.names("network", "list"))
        self.assertIn("private-v4", self.names("subnet", "list"))
        self.assertIn("mine", self.names("keypair", "list"))

    def test_generated_key_is_a_private_key(self):
        self.assertIn("PRIVATE KEY", self.key)

    def test_server_life(self):
        shown = self.create("web-1")
        self.assertEqual(shown["status"], "ACTIVE")
        self.assertIn("10.0.3.", str(shown["addresses"]))
        self.assertEqual(shown["key_name"], "mine")
        self.assertIn("web-1", self.names("server", "list"))
        for command, status in (("stop", "SHUTOFF"), ("start", "ACTIVE"), ("pause", "PAUSED"), ("unpause", "ACTIVE")):
            self.os("server", command, "web-1")
            self.wait_for("web-1", status)
        self.os("server", "reboot", "--wait", "web-1")
        self.os("server", "reboot", "--hard", "--wait", "web-1")
        self.assertEqual(self.os("server", "show", "web-1", "-f", "json")["status"], "ACTIVE")
        self.os("console", "log", "show", "web-1")
        events = [row["Action"] for row in self.os("server", "event", "list", "web-1", "-f", "json")]
        self.assertLessEqual({"create", "stop", "start", "pause", "unpause", "reboot"}, set(events))

    def wait_for(self, name, status):
        from cloud import wait_until
        wait_until(lambda: self.os("server", "show", name, "-f", "json")["status"] == status, 20,
                   f"{name} is {status}")

    def act(self, name, status, *command):
        self.os("server", *command, name)
        self.wait_for(name, status)

    def test_suspend_rescue_and_shelve(self):
        self.create("life-1")
        address = self.os("server", "show", "life-1", "-f", "json")["addresses"]
        self.act("life-1", "SUSPENDED", "suspend")
        self.act("life-1", "ACTIVE", "resume")
        self.act("life-1", "RESCUE", "rescue", "--image", "tiny")
        self.act("life-1", "ACTIVE", "unrescue")
        self.act("life-1", "SHELVED_OFFLOADED", "shelve")
        self.assertIn("life-1-shelved", self.names("image", "list"))
        self.act("life-1", "ACTIVE", "unshelve")
        self.assertNotIn("life-1-shelved", self.names("image", "list"))
        self.assertEqual(self.os("server", "show", "life-1", "-f", "json")["addresses"], address)
        events = {row["Action"] for row in self.os("server", "event", "list", "life-1", "-f", "json")}
        self.assertLessEqual({"suspend", "resume", "rescue", "unrescue", "shelve", "unshelve"}, events)

    def test_resize(self):
        self.os("flavor", "create", "m1.larger", "--vcpus", "2", "--ram", "256", "--disk", "2")
        self.create("size-1")
        self.os("server", "resize", "--wait", "--flavor", "m1.larger", "size-1")
        self.wait_for("size-1", "VERIFY_RESIZE")
        self.act("size-1", "ACTIVE", "resize", "revert")
        self.assertIn("m1.tiny", str(self.os("server", "show", "size-1", "-f", "json")["flavor"]))
        self.os("server", "resize", "--wait", "--flavor", "m1.larger", "size-1")
        self.act("size-1", "ACTIVE", "resize", "confirm")
        self.assertIn("m1.larger", str(self.os("server", "show", "size-1", "-f", "json")["flavor"]))
        refusal = self.cloud.refused("server", "resize", "--flavor", "m1.tiny", "size-1")
        self.assertIn("cannot shrink", refusal)
        rows = self.os("server", "migration", "list", "-f", "json")
        self.assertEqual({row["Status"] for row in rows}, {"reverted", "confirmed"})

    def test_images_of_a_server_and_rebuild(self):
        self.create("made-1")
        self.os("server", "image", "create", "--wait", "--name", "of-made-1", "made-1")
        image = self.os("image", "show", "of-made-1", "-f", "json")
        server = self.os("server", "show", "made-1", "-f", "json")
        self.assertEqual(image["status"], "active")
        self.assertEqual(image["properties"]["image_type"], "snapshot")
        self.assertEqual(image["properties"]["instance_uuid"], server["id"])
        self.assertEqual(image["properties"]["base_image_ref"], self.image["id"])
        self.assertEqual(image["properties"]["kernel_id"], self.kernel["id"])
        for name in ("b-1", "b-2", "b-3"):
            self.os("server", "backup", "create", "--wait", "--name", name, "--type", "daily", "--rotate", "2",
                    "made-1")
        self.assertEqual(self.names("image", "list") & {"b-1", "b-2", "b-3"}, {"b-2", "b-3"})
        self.os("server", "rebuild", "--wait", "--image", "of-made-1", "made-1")
        rebuilt = self.os("server", "show", "made-1", "-f", "json")
        self.assertIn("of-made-1", rebuilt["image"])
        self.assertEqual((rebuilt["status"], rebuilt["addresses"]), ("ACTIVE", server["addresses"]))

    def test_lock_rename_and_properties(self):
        self.create("locked-1")
        self.os("server", "lock", "locked-1")
        self.os("server", "unlock", "locked-1")
        self.os("server", "set", "--property", "role=db", "locked-1")
        self.assertEqual(self.os("server", "show", "locked-1", "-f", "json")["properties"], {"role": "db"})
        self.os("server", "set", "--name", "renamed-1", "locked-1")
        self.assertIn("renamed-1", self.names("server", "list"))
        self.os("server", "set", "--name", "locked-1", "renamed-1")

    def test_hypervisors_services_and_limits(self):
        hypervisors = self.os("hypervisor", "list", "-f", "json")
        self.assertEqual([row["State"] for row in hypervisors], ["up"])
        self.os("hypervisor", "show", hypervisors[0]["Hypervisor Hostname"], "-f", "json")
        services = {row["Binary"]: row["State"] for row in self.os("compute", "service", "list", "-f", "json")}
        self.assertEqual(services.get("nova-compute"), "up")
        self.assertIn("nova", {row["Zone Name"] for row in self.os("availability", "zone", "list", "-f", "json")})
        limits = {row["Name"]: row["Value"] for row in self.os("limits", "show", "--absolute", "-f", "json")}
        self.assertGreater(limits["maxTotalInstances"], 0)
        self.assertTrue(self.os("quota", "show", "-f", "json"))

    def test_delete_leaves_nothing(self):
        self.create("gone-1")
        self.os("server", "delete", "--wait", "gone-1")
        self.assertNotIn("gone-1", self.names("server", "list"))
        ports = self.os("port", "list", "-f", "json", "--device-owner", "compute:nova")
        self.assertEqual(ports, [])
        self.assertIn("No server with a name or ID", self.cloud.refused("server", "show", "gone-1"))

    def test_refusal_names_every_host_and_reason(self):
        self.os("flavor", "create", "huge", "--vcpus", "1", "--ram", "99999999", "--disk", "1")
        self.os("quota", "set", "--ram", "-1", "admin")
        # This client's exit status is 0 here: it raises a bare SystemExit.
        _, refusal, _ = self.cloud.run("server", "create", "big-1", "--wait", "--image", "tiny",
                                       "--flavor", "huge", "--network", "private", check=False)
        self.assertIn("Error creating server", refusal)
        self.addCleanup(self.cloud.run, "server", "delete", "big-1", check=False)
        fault = self.os("server", "show", "big-1", "-f", "json")["fault"]["message"]
        for word in ("No valid host", "cn-1", "RamFilter", "99999999"):
            self.assertIn(word, fault, refusal)


if __name__ == "__main__":
    unittest.main()
