#!/usr/bin/python3
"""Volumes on a real Ceph (one monitor, one OSD, with authentication) on kumoi nodes with real KVM guests. What a guest writes is
looked for by Ceph's own client, and the back end and the OSD are killed in the middle."""
import os
import signal
import subprocess
import unittest

from openstack_cloud import DEVSTACK, NODES, skip, wait_until
from volume_cases import GIB, VolumeCase, bring_up

CLOUD = None


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    wanted = [line for line in (DEVSTACK / "packages-ceph.txt").read_text().split("\n") if line and line[0] != "#"]
    known = subprocess.run(["apt-cache", "policy", *wanted], capture_output=True, text=True, check=False).stdout
    missing = [name for name in wanted if f"{name}:\n" not in known]
    if missing:
        skip(f"no Ceph in this Debian's package lists: {' '.join(missing)}")
    CLOUD = bring_up(ceph=True)


def image_bytes(volume, size=1 << 20):
    """The volume's first bytes, as Ceph has them."""
    folder = CLOUD.state / "ceph"
    with subprocess.Popen([str(DEVSTACK / "lib/in-namespace.sh"), "kumoi-control", "rbd", "-c", str(folder / "ceph.conf"), "-n",
                           "client.volumes", "--no-progress", "export", f"volumes/volume-{volume}", "-"],
                          stdout=subprocess.PIPE) as export:
        data = export.stdout.read(size)
        export.stdout.close()
        export.kill()
    return data


class Rbd(VolumeCase):
    @staticmethod
    def start_ceph():
        CLOUD.in_node("kumoi-control", str(DEVSTACK.parent / "ceph.sh"), "up", str(CLOUD.state / "ceph"))

    def test_what_a_guest_writes_is_in_ceph_and_outlives_back_end_and_osd(self):
        volume, server = self.volume("rbd"), self.server()
        shell = self.shell(server)
        self.attach(server, volume)
        disk = self.wait_disk(shell, volume)
        self.assertEqual(shell.check(f"cat /sys/block/{disk}/size"), str(GIB // 512))

        def write(text, block):
            shell.check(f"echo {text} | dd of=/dev/{disk} bs=512 seek={block} conv=sync,fsync 2>/dev/null", 120)
            self.assertTrue(image_bytes(volume)[512 * block:].startswith(text.encode()), text)
        write("by-the-guest", 8)
        pid = self.daemons()[volume]
        self.assertNotEqual(os.stat(f"/proc/{pid}").st_uid, 0)
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
            self.assertNotIn("key", file.read())  # Ceph's key is told, not shown
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.daemons()[volume] != pid, 60, "another back end")
        write("after-the-back-end", 16)

        self.addCleanup(self.start_ceph)
        os.kill(int((CLOUD.state / "ceph/run/osd.pid").read_text()), signal.SIGKILL)
        shell.run(f"(echo meanwhile | dd of=/dev/{disk} bs=512 seek=24 conv=sync,fsync 2>/dev/null; echo done >/tmp/done) & true")
        self.start_ceph()
        wait_until(lambda: shell.run("cat /tmp/done")[0] == "done", 120, "the guest's write went on", 1)
        self.assertTrue(image_bytes(volume)[512 * 24:].startswith(b"meanwhile"))

        CLOUD.rest.post("volumev3", f"/volumes/{volume}/action", {"os-extend": {"new_size": 2}})
        wait_until(lambda: shell.check(f"cat /sys/block/{disk}/size") == str(2 * GIB // 512), 60, "the guest sees 2 GiB", 1)
        self.detach(server, volume)
        self.assert_no_daemons()

    def test_a_server_on_a_volume_in_ceph(self):
        server = self.server(NODES[1], block_device_mapping_v2=[{
            "boot_index": 0, "uuid": CLOUD.ids["image"], "source_type": "image", "destination_type": "volume",
            "volume_size": 1, "volume_type": "rbd", "delete_on_termination": True}])
        (volume,) = self.attached(server)
        shell = self.shell(server, NODES[1])
        self.assertEqual(self.disk(shell, volume), "vda")
        shell.check("echo kept > /root/kept; sync")
        CLOUD.rest.post("compute", f"/servers/{server}/action", {"reboot": {"type": "HARD"}})
        CLOUD.wait_status(server, "ACTIVE", 120)
        self.assertEqual(self.shell(server, NODES[1]).check("cat /root/kept"), "kept")
        self.remove_server(server)
        self.wait_volume(volume, "gone")
        self.assert_no_daemons(NODES[1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
