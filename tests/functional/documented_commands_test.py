#!/usr/bin/python3
"""Every `kumoi` command that the pages on archives and templates show is run, also one that is added to a page; those
on backups need a guest: backup_killed_test.py."""
import json
import os
import shutil
import unittest

from cloud import Cloud
from documented_commands import Administrator


class DocumentedCommands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cloud = Cloud()
        cls.addClassCleanup(cls.cloud.remove)
        cls.cloud.start()
        cls.addClassCleanup(cls.cloud.stop)
        (cls.cloud.state / "disk.img").write_bytes(os.urandom(1 << 20))
        os_ = cls.cloud.openstack
        os_("image", "create", "alpine", "--disk-format", "raw", "--container-format", "bare",
            "--file", str(cls.cloud.state / "disk.img"))
        os_("flavor", "create", "tiny", "--vcpus", "1", "--ram", "128", "--disk", "1")
        os_("network", "create", "lan")
        os_("subnet", "create", "lan4", "--network", "lan", "--subnet-range", "10.0.3.0/24")

    def setUp(self):
        self.addCleanup(self.delete_all)

    def delete_all(self):
        for row in self.cloud.openstack("server", "list", "-f", "json"):
            self.cloud.run("server", "delete", "--wait", row["ID"], check=False)

    def names(self, *what):
        return sorted(row["Name"] for row in self.cloud.openstack(*what, "list", "-f", "json"))

    @unittest.skipUnless(shutil.which("qemu-img"), "an OVA is made by qemu-img")
    def test_server_archive(self):
        admin = Administrator(self, self.cloud)
        admin.types("kumoi server launch alpine web-1")
        admin.runs("server-archive.md", {"kumoi server import appliance.ova": lambda: shutil.copy(
            admin.folder / "web-1.ova", admin.folder / "appliance.ova")})
        admin.types("kumoi server export web-2 web-2.ovf")  # the comment: as files in a folder
        self.assertLessEqual({"web-1.kumoi", "web-1.ova", "web-2.ovf"}, set(os.listdir(admin.folder)))
        self.assertEqual((self.names("server"), self.names("image")), (["web-1", "web-1", "web-2"], ["alpine"]))

    def test_templates(self):
        # It gets as far as libguestfs here; tests/integration/guestfs_test.py has an appliance and a system for it.
        admin = Administrator(self, self.cloud, excused={"kumoi vm customize": "guestfs|operating system"})
        admin.types("kumoi server launch alpine golden")
        self.cloud.openstack("keypair", "create", "me")
        (admin.folder / "setup.yaml").write_text("#cloud-config\n")

        def make_folder():  # the simulated driver has none
            server = self.cloud.openstack("server", "show", "golden", "-f", "json")
            folder = self.cloud.state / "instances" / server["id"]
            folder.mkdir(parents=True)
            self.addCleanup(shutil.rmtree, folder)
            shutil.copy(self.cloud.state / "disk.img", folder / "disk")
            (folder / "config.json").write_text(json.dumps({"name": "golden"}))
            (folder / "guest.json").write_text(json.dumps({"disks": [{"id": "root", "path": str(folder / "disk")}]}))
        admin.runs("templates.md", {
            "kumoi vm customize": make_folder,
            "kumoi template delete": lambda: self.assertIn("web-template", self.names("image"))})
        self.assertEqual((self.names("server"), self.names("image")), (["golden", "web-7"], ["alpine"]))
        self.assertEqual(self.cloud.openstack("server", "show", "web-7", "-f", "json")["key_name"], "me")


if __name__ == "__main__":
    unittest.main()
