#!/usr/bin/python3
"""Debian's qemu-guest-agent in a server of a real OpenStack: nova-api's changePassword, the cipher that Nova keeps of
the password, and an image that is refused unless the file systems stood still."""
import base64
import pathlib
import subprocess
import sys
import tempfile
import unittest

from openstack_cloud import CommandFailed, OpenStackCloud, skip, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/support"))
import agent_guest  # noqa: E402
import linux_guest  # noqa: E402

CLOUD = None
BOOT_SECONDS = 600  # where ring 0 is emulated and others compute


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    if reason := agent_guest.missing():
        skip(reason)
    CLOUD = OpenStackCloud.up(compute="kumoi")
    unittest.addModuleCleanup(CLOUD.release)
    if not CLOUD.has_guests():
        skip("no guests (/dev/kvm, kumoi-vmm), so no agents")


class Agent(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="kumoi-agent-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = folder.name
        kernel, root = linux_guest.folders()
        kernel = cls.image("agent-kernel", "aki", f"{kernel}/vmlinux")
        initrd = cls.image("agent-initrd", "ari", agent_guest.make_initrd(cls.folder))
        boot = [f"kernel_id={kernel}", f"ramdisk_id={initrd}", "os_command_line=console=ttyS0 quiet",
                "os_require_quiesce=yes"]
        images = {"agent": cls.image("agent", "raw", f"{root}/kumoi-tiny.raw", *boot, "hw_qemu_guest_agent=yes"),
                  "none": cls.image("no-agent", "raw", f"{root}/kumoi-tiny.raw", *boot)}
        cls.make("flavor", "create", "agent", "--ram", "128", "--disk", "0")
        subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f",
                        f"{cls.folder}/key"], check=True)
        CLOUD.openstack("keypair", "create", "--public-key", f"{cls.folder}/key.pub", "agent")
        cls.addClassCleanup(CLOUD.openstack, "keypair", "delete", "agent")
        cls.servers = {name: CLOUD.openstack("server", "create", name, "--flavor", "agent", "--image", image, "--nic",
                                             "none", "--key-name", "agent", "-f", "json")["id"]
                       for name, image in images.items()}
        for server in cls.servers.values():
            cls.addClassCleanup(cls.remove, server)
        for server in cls.servers.values():
            CLOUD.wait_status(server, "ACTIVE", 300)

    @classmethod
    def make(cls, kind, *words):
        made = CLOUD.openstack(kind, *words, "-f", "json")["id"]
        cls.addClassCleanup(CLOUD.openstack, kind, "delete", made)
        return made

    @classmethod
    def image(cls, name, disk_format, path, *properties):
        container = "bare" if disk_format == "raw" else disk_format
        return cls.make("image", "create", name, "--disk-format", disk_format, "--container-format", container,
                        "--file", path, *(word for one in properties for word in ("--property", one)))

    @staticmethod
    def remove(server):
        CLOUD.rest.delete("compute", f"/servers/{server}")
        CLOUD.wait_gone(server, 300)

    def test_password(self):
        with self.assertRaisesRegex(CommandFailed, "QEMU guest agent is not enabled"):
            CLOUD.openstack("server", "set", self.servers["none"], "--password", "s3cret")
        server = self.servers["agent"]
        wait_until(lambda: "agent-guest: up" in CLOUD.openstack("console", "log", "show", server), BOOT_SECONDS,
                   "the guest", 1)
        wait_until(lambda: self.set_password(server), 60, "the agent", 1)
        self.assertEqual(CLOUD.server(server)["status"], "ACTIVE")
        kept = CLOUD.rest.get("compute", f"/servers/{server}/os-server-password")["password"]
        plain = subprocess.run(["openssl", "pkeyutl", "-decrypt", "-inkey", f"{self.folder}/key"],
                               input=base64.b64decode(kept), capture_output=True, check=True).stdout
        self.assertEqual(plain, b"s3cret")

    @staticmethod
    def set_password(server):
        """False while the agent, which starts when the guest is up, is silent: nova-api says 501 then."""
        try:
            CLOUD.openstack("server", "set", server, "--password", "s3cret")
        except CommandFailed as refused:
            if "HTTP 501" not in str(refused):
                raise
            return False
        return True

    def test_quiesced_image(self):
        server = self.servers["agent"]
        wait_until(lambda: "agent-guest: up" in CLOUD.openstack("console", "log", "show", server), BOOT_SECONDS,
                   "the guest", 1)
        image = CLOUD.openstack("server", "image", "create", "--wait", "--name", "still", server, "-f", "json")["id"]
        self.addCleanup(CLOUD.openstack, "image", "delete", image)
        CLOUD.openstack("image", "save", "--file", f"{self.folder}/still", image)
        subprocess.run(["qemu-img", "convert", "-O", "raw", f"{self.folder}/still", f"{self.folder}/raw"], check=True)
        state = subprocess.run(["dumpe2fs", "-h", f"{self.folder}/raw"], capture_output=True, text=True,
                               check=True).stdout
        self.assertRegex(state, r"Filesystem state:\s+clean")  # of a mounted one without a freeze: not clean
        with self.assertRaises(CommandFailed):
            CLOUD.openstack("server", "image", "create", "--wait", "--name", "torn", self.servers["none"])
        CLOUD.wait_status(self.servers["none"], "ACTIVE", 60)


if __name__ == "__main__":
    unittest.main(verbosity=2)
