#!/usr/bin/python3
"""Servers with volumes of Cinder that move between the two kumoi hosts while they run, with real guests: data volumes (iSCSI
and NFS) that a program in the guest writes meanwhile, together with a local root disk that is copied; a root disk that is a
volume; a config drive. What the guest wrote is looked at in the guest and where Cinder keeps it."""
import time
import unittest

from openstack_cloud import NODES, rest, wait_until
from volume_cases import VolumeCase, bring_up

CLOUD = None
ENDS = ("completed", "failed", "cancelled", "error")
BLOCK = 512
# Each block says which it is, and is durable before the next is written.
WRITER = ("i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo block $i | dd of=/dev/{disk} bs=512 seek=$i conv=sync,fsync "
          "2>/dev/null || echo $i >>/tmp/failed; echo $i >/tmp/count.{disk}; done")


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    CLOUD = bring_up()


class LiveMigrationOfVolumes(VolumeCase):
    def providers(self, consumer):
        names = {one["uuid"]: one["name"] for one in CLOUD.rest.get("placement", "/resource_providers")["resource_providers"]}
        return sorted(names[one] for one in CLOUD.rest.get("placement", f"/allocations/{consumer}")["allocations"])

    def migration(self, server):
        found = CLOUD.rest.get("compute", f"/os-migrations?instance_uuid={server}")["migrations"]
        return max(found, key=lambda one: one["id"], default={"status": None, "id": 0})

    def begin(self, server, to):
        before = self.migration(server)["id"]
        CLOUD.rest.request("POST", "compute", f"/servers/{server}/action",
                           {"os-migrateLive": {"host": to, "block_migration": "auto"}})
        wait_until(lambda: self.migration(server)["id"] > before, 60, "the live migration is recorded")

    def force(self, server):
        migration = self.migration(server)["id"]
        try:
            CLOUD.rest.request("POST", "compute", f"/servers/{server}/migrations/{migration}/action", {"force_complete": None})
        except rest.Refused as refused:  # it has ended just now
            self.assertIn(refused.status, (400, 404))

    def end(self, server, status="completed", patience=60):
        """A guest that writes faster than it is copied here is forced after a while."""
        deadline = time.monotonic() + patience
        wait_until(lambda: self.migration(server)["status"] in ENDS or time.monotonic() > deadline, 300, "the guest is on its way")
        if self.migration(server)["status"] == "running":
            self.force(server)
        wait_until(lambda: self.migration(server)["status"] in ENDS, 300, "the live migration ends")
        self.assertEqual(self.migration(server)["status"], status, CLOUD.server(server).get("fault"))
        CLOUD.wait_status(server, "ACTIVE", 120)

    def move(self, server, to):
        self.begin(server, to)
        self.end(server)

    def assert_on(self, server, node, volumes):
        """The server, its volumes' attachments and back ends, its allocation: there, and nowhere else."""
        other = NODES[1 - NODES.index(node)]
        self.assertEqual(CLOUD.server(server)["OS-EXT-SRV-ATTR:host"], node)
        self.assertEqual(self.providers(server), [node])
        wait_until(lambda: self.providers(self.migration(server)["uuid"]) == [], 60, "the migration holds nothing any more")
        for volume in volumes:
            found = CLOUD.rest.get("volumev3", f"/volumes/{volume}")["volume"]
            self.assertEqual([(one["server_id"], one["host_name"]) for one in found["attachments"]], [(server, node)])
            self.assertEqual(found["status"], "in-use")
        wait_until(lambda: set(volumes) <= set(self.daemons(node)), 60, f"{node} serves the volumes")
        wait_until(lambda: not set(volumes) & set(self.daemons(other)), 60, f"{other} serves none of the volumes")

    def start_writers(self, shell, *disks):
        shell.check("rm -f /tmp/stop /tmp/failed /tmp/count.*")
        for disk in disks:
            shell.check(f"({WRITER.format(disk=disk)}) >/dev/null 2>&1 & true")
        for disk in disks:
            wait_until(lambda disk=disk: self.counted(shell, disk), 60, "the guest writes")

    @staticmethod
    def counted(shell, disk):
        """Nothing while the guest is about to write the number."""
        return shell.run(f"cat /tmp/count.{disk}")[0].strip().isdigit()

    def stop_writers(self, shell, *disks):
        """How many blocks each has written; every one of them without an error."""
        shell.check("touch /tmp/stop; wait", 120)
        shell.check("[ ! -e /tmp/failed ]")
        return [int(shell.check(f"cat /tmp/count.{disk}")) for disk in disks]

    def assert_blocks(self, volume, backend, count):
        """As Cinder's own file has them."""
        with open(self.file(volume, backend), "rb") as file:
            content = file.read((count + 1) * BLOCK)
        for block in range(1, count + 1):
            told = content[block * BLOCK:(block + 1) * BLOCK].rstrip(b"\0")
            self.assertEqual(told, b"block %d\n" % block, f"{backend} block {block} of {count}")

    def test_data_volumes_are_written_while_it_moves_there_and_back(self):
        volumes = {backend: self.volume(backend) for backend in ("iscsi", "nfs")}
        server = self.server()
        shell = self.shell(server)
        disks = {}
        for backend, volume in volumes.items():
            self.attach(server, volume)
            disks[backend] = self.wait_disk(shell, volume)
        shell.check("echo kept >/root/kept; sync")
        names = [disks[backend] for backend in volumes]
        for node in NODES[::-1]:
            self.start_writers(shell, *names)
            shell.socket.close()  # one at a time has the console
            self.move(server, node)
            self.assert_on(server, node, list(volumes.values()))
            shell = self.shell(server, node)
            for disk in names:  # they go on writing here
                shell.check(f"rm -f /tmp/count.{disk}")
                wait_until(lambda disk=disk: self.counted(shell, disk), 60, "the guest writes on")
            counts = self.stop_writers(shell, *names)
            self.assertEqual(shell.check("cat /root/kept"), "kept")
            for (backend, volume), count in zip(volumes.items(), counts):
                self.assert_blocks(volume, backend, count)
        for volume in volumes.values():
            self.detach(server, volume)

    def test_a_root_volume_moves_with_a_data_volume_and_comes_back(self):
        data = self.volume("nfs")
        server = self.server(block_device_mapping_v2=[{
            "boot_index": 0, "uuid": CLOUD.ids["hotplug"], "source_type": "image", "destination_type": "volume",
            "volume_size": 1, "delete_on_termination": True}])
        (root,) = self.attached(server)
        shell = self.shell(server)
        self.attach(server, data)
        disk = self.wait_disk(shell, data)
        shell.check("echo kept >/root/kept; sync")
        shell.check(f"echo kept | dd of=/dev/{disk} bs=512 seek=9 conv=sync,fsync 2>/dev/null")
        for number, node in enumerate((NODES[1], NODES[0])):
            shell.check(f"echo {number} >>/root/kept")  # not synced: it is in the guest's memory
            shell.socket.close()
            self.move(server, node)
            self.assert_on(server, node, [root, data])
            shell = self.shell(server, node)
            self.assertEqual(shell.check("cat /root/kept").split(), ["kept", *map(str, range(number + 1))])
            self.assertEqual(shell.check(f"dd if=/dev/{disk} bs=512 skip=9 count=1 2>/dev/null").strip("\0\n"), "kept")
        self.assertFalse((CLOUD.state / NODES[1] / "instances" / server).exists())
        # What it wrote is on the volume, not in a guest's memory alone.
        shell.check("sync")
        shell.socket.close()
        CLOUD.rest.request("POST", "compute", f"/servers/{server}/action", {"reboot": {"type": "HARD"}})
        wait_until(lambda: CLOUD.server(server)["OS-EXT-STS:task_state"] is not None, 30, "the reboot begins")
        CLOUD.wait_status(server, "ACTIVE", 240)
        self.assertEqual(self.shell(server).check("cat /root/kept").split(), ["kept", "0", "1"])

    def test_a_config_drive_moves_with_a_volume_that_is_written(self):
        volume = self.volume("iscsi")
        server = self.server(config_drive=True)
        shell = self.shell(server)
        self.attach(server, volume)
        disk = self.wait_disk(shell, volume)
        drive = shell.check("grep -l config-2 /sys/block/*/serial | cut -d/ -f4")
        digest = shell.check(f"md5sum </dev/{drive}")
        self.start_writers(shell, disk)
        shell.socket.close()
        self.move(server, NODES[1])
        self.assert_on(server, NODES[1], [volume])
        shell = self.shell(server, NODES[1])
        (count,) = self.stop_writers(shell, disk)
        self.assert_blocks(volume, "iscsi", count)
        shell.check("echo 3 >/proc/sys/vm/drop_caches")
        self.assertEqual(shell.check(f"md5sum </dev/{drive}"), digest)


if __name__ == "__main__":
    unittest.main(verbosity=2)
