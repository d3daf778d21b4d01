#!/usr/bin/python3
"""Servers with volumes that move: resize on the same host and to the other, cold migration, evacuation, with a volume attached and
with a volume as the root disk; rebuild and rescue of servers on volumes; hosts that share their instances_path."""
import os
import signal
import subprocess
import unittest

from openstack_cloud import NODES, wait_until
from volume_cases import VolumeCase, bring_up, hotplug_image

CLOUD = None


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    CLOUD = bring_up()


def folder(node, server, ending=""):
    return CLOUD.state / node / "instances" / (server + ending)


class MovesWithVolumes(VolumeCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.start_everything)

    def start_everything(self):
        for node in NODES:
            if f"nova-compute-{node}" not in CLOUD.faults.running():
                CLOUD.faults.start(f"nova-compute-{node}")
            # Nova lets no host back whose evacuations it has not cleaned up after.
            wait_until(lambda node=node: not self.evacuations(node), 120, f"{node} has removed what left it")
            self.service(node, forced_down=False, status="enabled")
            wait_until(lambda node=node: self.record(node)["state"] == "up", 120, f"{node} is up")

    @staticmethod
    def evacuations(node):
        found = CLOUD.rest.get("compute", f"/os-migrations?migration_type=evacuation&status=done&source_compute={node}")
        return found["migrations"]

    def record(self, node):
        return CLOUD.rest.get("compute", f"/os-services?binary=nova-compute&host={node}")["services"][0]

    def service(self, node, **wanted):
        record = self.record(node)
        for name, value in wanted.items():
            if record[name] != value:
                CLOUD.rest.request("PUT", "compute", f"/os-services/{record['id']}", {name: value})

    def action(self, server, body, version=None):
        headers = {"OpenStack-API-Version": f"compute {version}"} if version else {}
        CLOUD.rest.request("POST", "compute", f"/servers/{server}/action", body, headers)

    def host(self, server):
        return CLOUD.server(server)["OS-EXT-SRV-ATTR:host"]

    def root_volume(self, node=NODES[0], image="image", **more):
        """A server whose root disk is a volume, and the volume."""
        server = self.server(node, block_device_mapping_v2=[{
            "boot_index": 0, "uuid": CLOUD.ids[image], "source_type": "image", "destination_type": "volume",
            "volume_size": 1, "delete_on_termination": True}], **more)
        (volume,) = self.attached(server)
        return server, volume

    def providers(self, consumer):
        names = {one["uuid"]: one["name"] for one in CLOUD.rest.get("placement", "/resource_providers")["resource_providers"]}
        return sorted(names[one] for one in CLOUD.rest.get("placement", f"/allocations/{consumer}")["allocations"])

    def write(self, shell, disk, text):
        shell.check(f"echo {text} | dd of=/dev/{disk} bs=512 seek=2048 conv=sync,fsync 2>/dev/null", 120)

    def read(self, shell, volume):
        disk = self.disk(shell, volume)
        return shell.check(f"dd if=/dev/{disk} bs=512 skip=2048 count=1 2>/dev/null", 120).strip("\0\n")

    def resize_here(self):
        """nova-api may choose a server's own host from now on, and no other is open."""
        conf = CLOUD.state / "etc/nova/nova.conf"
        before = conf.read_text()

        def tell(text):
            conf.write_text(text)
            CLOUD.faults.restart("nova-api")
            wait_until(self.answers, 60, "nova-api answers")
        self.addCleanup(tell, before)
        tell(before.replace("allow_resize_to_same_host = false", "allow_resize_to_same_host = true"))
        self.service(NODES[1], status="disabled")

    @staticmethod
    def answers():
        try:
            return CLOUD.rest.get("compute", "/os-services")
        except (OSError, RuntimeError):
            return None

    def test_resize_on_the_same_host_with_a_volume(self):
        volume, server = self.volume(), self.server()
        shell = self.shell(server)
        self.attach(server, volume)
        self.write(shell, self.wait_disk(shell, volume), "before")
        shell.check("echo kept > /root/kept; sync")
        self.resize_here()
        for end, status in (("revertResize", "m1.nano"), ("confirmResize", "m1.micro")):
            self.action(server, {"resize": {"flavorRef": CLOUD.ids["m1.micro"]}})
            CLOUD.wait_status(server, "VERIFY_RESIZE", 240)
            self.assertEqual(self.host(server), NODES[0])
            self.assertEqual(self.volume_status(volume), "in-use")
            self.assertEqual(self.read(self.shell(server), volume), "before")
            self.action(server, {end: None})
            CLOUD.wait_status(server, "ACTIVE", 240)
            shell = self.shell(server)
            self.assertEqual(self.read(shell, volume), "before")
            self.assertEqual(shell.check("cat /root/kept"), "kept")
            self.assertEqual(CLOUD.server(server)["flavor"]["original_name"], status)
            self.assertEqual(self.providers(server), [NODES[0]])
            self.assertFalse(folder(NODES[0], server, "_resize").exists())
        self.assertEqual(list(self.daemons()), [volume])

    def test_a_server_on_a_volume_with_another_one_migrates_and_comes_back(self):
        server, root = self.root_volume()
        volume = self.volume("nfs")
        shell = self.shell(server)
        self.attach(server, volume)
        # This kernel plugs nothing: the disk is there from the next boot on.
        shell.check("echo kept > /root/kept; sync")
        shell.socket.close()
        for end, home in (("revertResize", NODES[0]), ("confirmResize", NODES[1])):
            self.action(server, {"migrate": None})
            CLOUD.wait_status(server, "VERIFY_RESIZE", 240)
            self.assertEqual(self.host(server), NODES[1])
            self.assert_no_daemons(NODES[0])
            self.assertEqual(sorted(self.daemons(NODES[1])), sorted([root, volume]))
            shell = self.shell(server, NODES[1])
            self.assertEqual(shell.check("cat /root/kept"), "kept")
            self.assertTrue(self.disk(shell, volume))
            shell.socket.close()  # one at a time has the console
            self.action(server, {end: None})
            CLOUD.wait_status(server, "ACTIVE", 240)
            self.assertEqual(self.host(server), home)
            self.assertEqual(sorted(self.daemons(home)), sorted([root, volume]))
            self.assertEqual(self.shell(server, home).check("cat /root/kept"), "kept")
            self.assertEqual([self.volume_status(one) for one in (root, volume)], ["in-use", "in-use"])
        self.remove_server(server)
        self.wait_volume(root, "gone")
        self.wait_volume(volume, "available")
        for node in NODES:
            self.assert_no_daemons(node)

    def test_a_server_on_a_volume_is_evacuated(self):
        server, root = self.root_volume()
        self.shell(server).check("echo kept > /root/kept; sync")
        CLOUD.faults.kill(f"nova-compute-{NODES[0]}")
        for pid in self.daemons(NODES[0]).values():
            os.kill(pid, signal.SIGKILL)
        subprocess.run(["pkill", "-9", "-f", f"{folder(NODES[0], server)}/"], check=False)
        self.service(NODES[0], forced_down=True)
        self.action(server, {"evacuate": {}})
        wait_until(lambda: self.host(server) == NODES[1], 180, "the server is on the other host")
        CLOUD.wait_status(server, "ACTIVE", 120)
        self.assertEqual(self.shell(server, NODES[1]).check("cat /root/kept"), "kept")
        self.assertEqual(self.volume_status(root), "in-use")
        CLOUD.faults.start(f"nova-compute-{NODES[0]}")
        wait_until(lambda: not folder(NODES[0], server).exists(), 120, "the dead host has removed what it had")
        self.assert_no_daemons(NODES[0])
        self.assertEqual(list(self.daemons(NODES[1])), [root])
        self.assertEqual(self.shell(server, NODES[1]).check("cat /root/kept"), "kept")
        self.assertEqual(self.providers(server), [NODES[1]])

    def test_a_shelved_server_on_a_volume_shuts_down_first(self):
        server, root = self.root_volume()
        self.shell(server)
        self.action(server, {"shelve": None})
        CLOUD.wait_status(server, "SHELVED_OFFLOADED", 180)
        self.assertEqual(self.volume_status(root), "reserved")
        self.assertEqual(self.providers(server), [])
        self.assert_no_daemons()

    def test_a_root_volume_gets_another_image(self):
        server, root = self.root_volume()
        self.shell(server).check("echo kept > /root/kept; sync")
        self.action(server, {"rebuild": {"imageRef": CLOUD.ids["hotplug"]}}, "2.93")
        CLOUD.wait_status(server, "ACTIVE", 300)
        shell = self.shell(server)
        _, status = shell.run("cat /root/kept")
        self.assertNotEqual(status, 0)
        self.assertEqual(self.attached(server), [root])
        self.assertEqual(self.volume_status(root), "in-use")

    def test_a_server_on_a_volume_is_rescued(self):
        server, root = self.root_volume()
        self.shell(server).check("echo kept > /root/kept; sync")
        rescue = hotplug_image("hotplug-rescue", hw_rescue_device="disk", hw_rescue_bus="virtio")
        self.action(server, {"rescue": {"rescue_image_ref": rescue}}, "2.87")
        CLOUD.wait_status(server, "RESCUE", 240)
        shell = self.shell(server)
        disk = self.disk(shell, root)
        self.assertEqual(shell.check(f"mkdir -p /tmp/r; mount /dev/{disk} /tmp/r && cat /tmp/r/root/kept; umount /tmp/r"), "kept")
        self.action(server, {"unrescue": None})
        CLOUD.wait_status(server, "ACTIVE", 240)
        self.assertEqual(self.shell(server).check("cat /root/kept"), "kept")
        self.assertEqual(self.volume_status(root), "in-use")

    def test_hosts_that_share_their_folder_copy_and_remove_nothing(self):
        self.share_instances()
        server = self.server()
        self.shell(server).check("echo kept > /root/kept; sync")
        disk = folder(NODES[0], server) / "disk"
        for end, home in (("revertResize", NODES[0]), ("confirmResize", NODES[1])):
            self.action(server, {"migrate": None})
            CLOUD.wait_status(server, "VERIFY_RESIZE", 240)
            self.assertEqual(self.host(server), NODES[1])
            self.assertEqual(self.shell(server, NODES[1]).check("cat /root/kept"), "kept")
            self.action(server, {end: None})
            CLOUD.wait_status(server, "ACTIVE", 240)
            self.assertEqual(self.host(server), home)
            self.assertEqual(self.shell(server, home).check("cat /root/kept"), "kept")
        # And evacuated: the disk that is there is used.
        CLOUD.faults.kill(f"nova-compute-{NODES[1]}")
        subprocess.run(["pkill", "-9", "-f", f"^[^ ]*kumoi-vmm .*{server}/"], check=False)
        self.service(NODES[1], forced_down=True)
        self.action(server, {"evacuate": {}})
        wait_until(lambda: self.host(server) == NODES[0], 180, "the server is on the other host")
        CLOUD.wait_status(server, "ACTIVE", 120)
        self.assertEqual(self.shell(server).check("cat /root/kept"), "kept")
        self.start_everything()
        self.assertEqual(self.shell(server).check("cat /root/kept"), "kept")
        self.assertTrue(disk.exists())

    def share_instances(self):
        """The second host's folder becomes the first one's, as with NFS below both."""
        theirs = CLOUD.state / NODES[1] / "instances"
        theirs.mkdir(parents=True, exist_ok=True)

        def mount(*words):
            CLOUD.faults.stop(f"nova-compute-{NODES[1]}")
            subprocess.run(words, check=True)
            CLOUD.faults.start(f"nova-compute-{NODES[1]}")
        mount("mount", "--bind", str(CLOUD.state / NODES[0] / "instances"), str(theirs))
        self.addCleanup(mount, "umount", "-l", str(theirs))


if __name__ == "__main__":
    unittest.main(verbosity=2)
