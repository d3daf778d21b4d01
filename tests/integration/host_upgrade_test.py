#!/usr/bin/python3
"""kumoi host upgrade: a server's guest goes on in the kumoi-vmm that was installed meanwhile, or stays where it was, also when
kumoi-compute dies in the middle. A whole cloud with a real guest in a network namespace of its own."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
import linux_guest  # noqa: E402
from cloud import CLI, VMM, Cloud, enter_own_namespace, wait_until  # noqa: E402
import cloud_guest_test  # noqa: E402


PATIENCE = cloud_guest_test.PATIENCE


class HostUpgrade(unittest.TestCase):
    login = cloud_guest_test.CloudGuest.login
    status = cloud_guest_test.CloudGuest.status
    wait_console = cloud_guest_test.CloudGuest.wait_console

    @classmethod
    def setUpClass(cls):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        folders = linux_guest.folders()
        cls.cloud = Cloud(driver="kumoi", options="kumoi vmm_path = /proc/self/cwd/absent")
        cls.addClassCleanup(cls.cloud.remove)
        cls.vmm = cls.cloud.state / "kumoi-vmm"
        config = cls.cloud.state / "kumoi.conf"
        config.write_text(config.read_text().replace("/proc/self/cwd/absent", str(cls.vmm)))
        cls.install()
        cls.cloud.start()
        cls.addClassCleanup(cls.cloud.stop)
        cls.os = cls.cloud.openstack
        kernel = cls.os("image", "create", "kernel", "--disk-format", "aki", "--container-format", "aki",
                        "--file", f"{folders[0]}/vmlinux", "-f", "json")["id"]
        cls.os("image", "create", "tiny", "--disk-format", "raw", "--property", f"kernel_id={kernel}",
               "--property", "os_command_line=console=ttyS0 root=/dev/vda rw quiet",
               "--file", f"{folders[1]}/kumoi-tiny.raw", "-f", "json")
        cls.os("flavor", "create", "small", "--ram", "96", "--disk", "1")
        cls.os("network", "create", "net")
        cls.os("subnet", "create", "sub", "--network", "net", "--subnet-range", "10.77.0.0/24")

    @classmethod
    def install(cls, script=None):
        """A new file in the old one's place, as a package does it."""
        new = cls.vmm.with_suffix(".new")
        if script:
            new.write_text(script)
            new.chmod(0o755)
        else:
            shutil.copy(VMM, new)
        os.replace(new, cls.vmm)

    def upgrade(self, *more, code=0):
        done = subprocess.run([CLI, "--state-path", self.cloud.state, "-f", "json", "host", "upgrade", *more],
                              capture_output=True, text=True, timeout=120 * PATIENCE)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr + self.cloud.logs())
        return json.loads(done.stdout)

    def goes_on(self):
        """The guest has not been started anew, and writes its disk."""
        told = self.login("vm-1", "sync; cat /proc/sys/kernel/random/boot_id; cat /mark")
        self.assertIn(self.boot, told)
        self.assertIn("precious", told)
        self.assertEqual(self.status("vm-1"), "ACTIVE")

    def test_a_server_goes_on_in_the_installed_program(self):
        self.os("server", "create", "vm-1", "--wait", "--image", "tiny", "--flavor", "small", "--network", "net")
        self.wait_console("vm-1", "kumoi-tiny: ready")
        self.boot = next(line for line in self.login("vm-1", "echo precious > /mark; cat /proc/sys/kernel/random/boot_id")
                         .split() if line.count("-") == 4 and len(line) == 36)
        self.assertEqual(self.upgrade()[0]["outcome"], "current")

        self.install()
        self.assertEqual(self.upgrade("--dry-run")[0]["outcome"], "older")
        for _ in range(2):
            report = self.upgrade()[0]
            self.assertEqual(report["outcome"], "upgraded", report)
            print(f"stop: {report['stop_ms']:.1f} ms")
            self.goes_on()
            self.assertEqual(self.upgrade()[0]["outcome"], "current")
            self.install()
        folder = next((self.cloud.state / "instances").glob("*-*-*"))
        self.assertFalse((folder / "upgrade.json").exists())
        self.assertFalse((folder / "upgrade.sock").exists())

        self.install("#!/bin/false\n")
        report = self.upgrade(code=1)[0]
        self.assertEqual(report["outcome"], "stayed")
        self.assertIn("ended while it started", report["reason"])
        self.goes_on()

        self.die_in_the_middle(folder)
        self.install()
        self.assertEqual(self.upgrade()[0]["outcome"], "upgraded")
        self.goes_on()
        self.os("server", "reboot", "--hard", "--wait", "vm-1")
        self.wait_console("vm-1", "kumoi-tiny: ready", 2)
        self.assertEqual(self.upgrade()[0]["outcome"], "current")
        self.os("server", "delete", "--wait", "vm-1")
        self.assertEqual(list((self.cloud.state / "instances").glob("*-*-*")), [])

    def die_in_the_middle(self, folder):
        self.install(f"#!/bin/sh\nsleep 2\nexec {VMM} \"$@\"\n")
        asked = subprocess.Popen([CLI, "--state-path", self.cloud.state, "host", "upgrade"], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        wait_until((folder / "upgrade.json").exists, 20 * PATIENCE, "the upgrade begins")
        time.sleep(0.2)
        self.cloud.kill()
        self.assertNotEqual(asked.wait(30), 0)
        self.cloud.start()
        self.assertFalse((folder / "upgrade.json").exists(), self.cloud.logs())
        self.goes_on()


if __name__ == "__main__":
    enter_own_namespace((VMM, "the release build is missing"))
    unittest.main(verbosity=2)
