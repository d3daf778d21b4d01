#!/usr/bin/python3
"""Cinder's volumes on kumoi nodes: real iSCSI and NFS back ends, real KVM guests, and a node or a back end that is
killed in the middle. What a guest writes is looked for in the files that Cinder keeps, and the other way round."""
import os
import pathlib
import signal
import time
import unittest

from openstack_cloud import NODES, wait_until
from volume_cases import GIB, VolumeCase, bring_up

CLOUD = None


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    CLOUD = bring_up()


class Volumes(VolumeCase):
    def write_and_read(self, backend):
        volume, server = self.volume(backend), self.server()
        shell = self.shell(server)
        self.attach(server, volume)
        disk = self.wait_disk(shell, volume)
        self.assertEqual(shell.check(f"cat /sys/block/{disk}/size"), str(GIB // 512))
        shell.check(f"echo written-by-the-guest | dd of=/dev/{disk} bs=512 seek=2048 conv=sync,fsync 2>/dev/null", 120)
        with open(self.file(volume, backend), "rb") as file:
            file.seek(1 << 20)
            self.assertEqual(file.read(20), b"written-by-the-guest")
        pid = self.daemons()[volume]
        self.assertNotEqual(os.stat(f"/proc/{pid}").st_uid, 0)
        self.assertNotIn("auth", pathlib.Path(f"/proc/{pid}/cmdline").read_text())
        self.detach(server, volume)
        self.assertFalse(os.path.exists(f"/proc/{pid}"))
        self.assert_no_daemons()
        output, _ = shell.run(f"ls /sys/block/{disk}")
        self.assertNotIn("size", output.split())
        # And back: what is on it is there for the next.
        self.attach(server, volume)
        disk = self.wait_disk(shell, volume)
        self.assertIn("written-by-the-guest", shell.check(f"dd if=/dev/{disk} bs=512 skip=2048 count=1 2>/dev/null"))
        CLOUD.rest.post("compute", f"/servers/{server}/action", {"reboot": {"type": "HARD"}})
        CLOUD.wait_status(server, "ACTIVE", 120)
        shell = self.shell(server)
        self.assertTrue(self.disk(shell, volume))
        self.remove_server(server)
        self.wait_volume(volume, "available")
        self.assert_no_daemons()

    def test_iscsi(self):
        self.write_and_read("iscsi")

    def test_nfs(self):
        self.write_and_read("nfs")

    def test_boot_from_a_volume_made_of_an_image(self):
        server = self.server(block_device_mapping_v2=[{
            "boot_index": 0, "uuid": CLOUD.ids["image"], "source_type": "image", "destination_type": "volume",
            "volume_size": 1, "delete_on_termination": True}])
        (volume,) = self.attached(server)
        self.assertEqual(self.volume_status(volume), "in-use")
        shell = self.shell(server)
        self.assertEqual(self.disk(shell, volume), "vda")
        shell.check("echo kept > /root/kept; sync")
        CLOUD.rest.post("compute", f"/servers/{server}/action", {"os-stop": None})
        CLOUD.wait_status(server, "SHUTOFF", 120)
        CLOUD.rest.post("compute", f"/servers/{server}/action", {"os-start": None})
        CLOUD.wait_status(server, "ACTIVE", 120)
        self.assertEqual(self.shell(server).check("cat /root/kept"), "kept")
        self.remove_server(server)
        self.wait_volume(volume, "gone")
        self.assert_no_daemons()

    def test_a_shelved_server_takes_its_volumes_to_another_host(self):
        volume = self.volume(imageRef=CLOUD.ids["image"])
        server = self.server(block_device_mapping_v2=[{
            "boot_index": 0, "uuid": volume, "source_type": "volume", "destination_type": "volume"}])
        CLOUD.rest.post("compute", f"/servers/{server}/action", {"shelve": None})
        CLOUD.wait_status(server, "SHELVED_OFFLOADED", 120)
        self.assert_no_daemons()
        self.assertEqual(self.volume_status(volume), "reserved")
        CLOUD.rest.request("POST", "compute", f"/servers/{server}/action", {"unshelve": {"host": NODES[1]}},
                           {"OpenStack-API-Version": "compute 2.91"})
        CLOUD.wait_status(server, "ACTIVE", 240)
        self.assertEqual(self.disk(self.shell(server, NODES[1]), volume), "vda")
        self.remove_server(server)
        self.wait_volume(volume, "available")

    def test_an_attached_volume_grows(self):
        volume, server = self.volume(), self.server()
        shell = self.shell(server)
        self.attach(server, volume)
        disk = self.wait_disk(shell, volume)
        CLOUD.rest.post("volumev3", f"/volumes/{volume}/action", {"os-extend": {"new_size": 2}})
        wait_until(lambda: shell.check(f"cat /sys/block/{disk}/size") == str(2 * GIB // 512), 60, "the guest sees 2 GiB", 1)
        shell.check(f"echo beyond | dd of=/dev/{disk} bs=1M seek=1500 conv=fsync 2>/dev/null", 120)

    def test_volumes_are_exchanged_while_the_guest_writes(self):
        old, new, server = self.volume("iscsi"), self.volume("nfs"), self.server()
        shell = self.shell(server)
        self.attach(server, old)
        disk = self.wait_disk(shell, old)
        shell.check(f"echo before | dd of=/dev/{disk} bs=512 conv=sync,fsync 2>/dev/null", 120)
        CLOUD.rest.put("compute", f"/servers/{server}/os-volume_attachments/{old}", {"volumeAttachment": {"volumeId": new}})
        self.wait_volume(new, "in-use", 240)
        self.wait_volume(old, "available", 240)
        shell.check(f"echo after | dd of=/dev/{disk} bs=512 seek=8 conv=sync,fsync 2>/dev/null", 120)
        with open(self.file(new, "nfs"), "rb") as file:
            data = file.read(8192)
        self.assertTrue(data.startswith(b"before"))
        self.assertTrue(data[4096:].startswith(b"after"))
        self.assertEqual(self.attached(server), [new])
        self.detach(server, new)

    def test_a_killed_back_end_is_replaced_and_the_guest_only_waits(self):
        volume, server = self.volume(), self.server()
        shell = self.shell(server)
        self.attach(server, volume)
        disk = self.wait_disk(shell, volume)
        for number in range(2):  # one that was plugged in, and one that the machine was started with
            before = self.daemons()[volume]
            os.kill(before, signal.SIGKILL)
            wait_until(lambda pid=before: self.daemons()[volume] != pid, 30, "another back end")
            text = f"survived-{number}"
            shell.check(f"echo {text} | dd of=/dev/{disk} bs=512 conv=sync,fsync 2>/dev/null", 120)
            with open(self.file(volume), "rb") as file:
                self.assertTrue(file.read(10).startswith(text.encode()))
            if number == 0:
                CLOUD.rest.post("compute", f"/servers/{server}/action", {"reboot": {"type": "HARD"}})
                CLOUD.wait_status(server, "ACTIVE", 120)
                shell = self.shell(server)
                disk = self.disk(shell, volume)
        self.detach(server, volume)

    def test_a_killed_node_finishes_what_it_had_begun(self):
        volume, server = self.volume(), self.server()
        shell = self.shell(server)
        for delay in (0.3, 0.8):
            CLOUD.rest.post("compute", f"/servers/{server}/os-volume_attachments", {"volumeAttachment": {"volumeId": volume}})
            time.sleep(delay)
            CLOUD.faults.kill(f"nova-compute-{NODES[0]}")
            CLOUD.faults.start(f"nova-compute-{NODES[0]}")
            self.settle(server, volume)
            if volume not in self.attached(server):  # it was undone, or lost before it was begun
                self.assert_no_daemons()
                self.reset_lost(volume)
                self.attach(server, volume)
            self.wait_disk(shell, volume)
            CLOUD.rest.delete("compute", f"/servers/{server}/os-volume_attachments/{volume}")
            time.sleep(delay)
            CLOUD.faults.kill(f"nova-compute-{NODES[0]}")
            CLOUD.faults.start(f"nova-compute-{NODES[0]}")
            self.wait_volume(volume, "available", 240)
            self.assert_no_daemons()
        self.assertTrue(shell.check("echo still here"))

    def settle(self, server, volume):
        def settled():
            status = self.volume_status(volume)
            return status == "in-use" or status == "available"
        wait_until(settled, 120, f"volume {volume} of {server} is attached or free")

    def reset_lost(self, volume):
        wait_until(lambda: self.volume_status(volume) == "available", 60, "the volume is free")

    def test_guests_and_back_ends_outlive_the_node(self):
        volume, server = self.volume(), self.server()
        shell = self.shell(server)
        self.attach(server, volume)
        disk = self.wait_disk(shell, volume)
        before = self.daemons()[volume]
        CLOUD.faults.kill(f"nova-compute-{NODES[0]}")
        shell.check(f"echo alone | dd of=/dev/{disk} bs=512 conv=sync,fsync 2>/dev/null", 120)
        os.kill(before, signal.SIGKILL)  # and while nobody watches
        CLOUD.faults.start(f"nova-compute-{NODES[0]}")
        wait_until(lambda: self.daemons()[volume] != before, 60, "another back end")
        self.assertIn("alone", shell.check(f"dd if=/dev/{disk} bs=512 count=1 iflag=direct 2>/dev/null", 120))
        self.detach(server, volume)


if __name__ == "__main__":
    unittest.main(verbosity=2)
