#!/usr/bin/python3
"""A tenant sets a password and takes an image whose file systems stood still: the stock openstack client,
kumoi-compute with kumoi-vmm, and Debian's qemu-guest-agent in the server."""
import os
import pathlib
import socket
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
import agent_guest  # noqa: E402
import linux_guest  # noqa: E402
from cloud import Cloud, enter_own_namespace, wait_until  # noqa: E402

PATIENCE = float(os.environ.get("KUMOI_TEST_PATIENCE", "1"))


class CloudAgent(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        folders = linux_guest.folders()
        cls.cloud = Cloud(driver="kumoi", options="kumoi guest_agent_timeout = 60")
        cls.addClassCleanup(cls.cloud.remove)
        cls.cloud.start()
        cls.addClassCleanup(cls.cloud.stop)
        cls.os = cls.cloud.openstack
        kernel, initrd = (
            cls.os("image", "create", name, "--disk-format", kind, "--container-format", kind, "--file", path,
                   "-f", "json")["id"]
            for name, kind, path in (("kernel", "aki", f"{folders[0]}/vmlinux"),
                                     ("initrd", "ari", agent_guest.make_initrd(cls.cloud.state))))
        for name, properties in (("agent", ["hw_qemu_guest_agent=yes", "os_require_quiesce=yes"]), ("none", ["os_require_quiesce=yes"])):
            cls.os("image", "create", name, "--disk-format", "raw", "--file", f"{folders[1]}/kumoi-tiny.raw",
                   *(word for property in (f"kernel_id={kernel}", f"ramdisk_id={initrd}", *properties,
                                           "os_command_line=console=ttyS0 quiet") for word in ("--property", property)),
                   "-f", "json")
        cls.os("flavor", "create", "small", "--ram", "128", "--disk", "0")
        cls.os("keypair", "create", "mine", "--private-key", f"{cls.cloud.state}/key")

    def folder(self, name):
        return self.cloud.state / "instances" / self.os("server", "show", name, "-f", "json")["id"]

    def test_password_and_quiesced_image(self):
        for name in ("agent", "none"):
            self.os("server", "create", name, "--image", name, "--flavor", "small", "--nic", "none",
                    "--key-name", "mine", "--os-compute-api-version", "2.37", "--wait")
        refusal = self.cloud.refused("server", "set", "none", "--password", "s3cret")
        self.assertIn("QEMU guest agent is not enabled", refusal)
        self.cloud.refused("server", "image", "create", "--wait", "--name", "torn", "none")
        self.assertEqual(self.os("server", "show", "none", "-f", "json")["status"], "ACTIVE")
        self.assertNotIn("torn", [image["Name"] for image in self.os("image", "list", "-f", "json")])
        self.os("server", "delete", "none", "--wait")

        log = self.folder("agent") / "console.log"
        wait_until(lambda: "agent-guest: up" in log.read_text(errors="replace"), 180 * PATIENCE, "the guest", 0.2)
        self.os("server", "set", "agent", "--password", "s3cret")
        with socket.socket(socket.AF_UNIX) as console:
            console.connect(str(self.folder("agent") / "console.sock"))
            console.settimeout(60 * PATIENCE)
            console.sendall(b"cat /etc/shadow\n")
            seen = b""
            while b":99999:" not in seen:
                seen += console.recv(4096)
        self.assertRegex(seen.decode(), r"root:[^*!:]{10,}:")
        server = self.os("server", "show", "agent", "-f", "json")
        self.assertEqual((server["status"], server["OS-EXT-STS:task_state"]), ("ACTIVE", None))
        events = self.os("server", "event", "list", "agent", "-f", "json")
        self.assertIn("changePassword", [event["Action"] for event in events])

        self.os("server", "image", "create", "--wait", "--name", "still", "agent")
        told = (self.cloud.state / "compute.log").read_text()
        self.assertRegex(told, r"the guest's file systems stand still.*count.{1,3}1")
        self.assertNotIn("could not be told to go on", told)
        self.assertNotIn("s3cret", told)
        # A clean file system: whoever boots the image finds nothing to repair.
        copy = self.cloud.state / "still.raw"
        self.os("image", "save", "--file", f"{copy}.qcow2", "still")
        subprocess.run(["qemu-img", "convert", "-O", "raw", f"{copy}.qcow2", str(copy)], check=True)
        state = subprocess.run(["dumpe2fs", "-h", str(copy)], capture_output=True, text=True, check=True).stdout
        self.assertRegex(state, r"Filesystem state:\s+clean")
        self.os("server", "delete", "agent", "--wait")


if __name__ == "__main__":
    enter_own_namespace((agent_guest.AGENT, "install qemu-guest-agent"))
    unittest.main()
