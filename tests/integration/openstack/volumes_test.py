#!/usr/bin/python3
"""Cinder's volumes on kumoi nodes: real iSCSI and NFS back ends, real KVM guests, and a node or a back end that is
killed in the middle. What a guest writes is looked for in the files that Cinder keeps, and the other way round."""
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import unittest

from openstack_cloud import NODES, PATIENCE, ROOT, OpenStackCloud, rest, skip, wait_until

CLOUD = None
GIB = 1 << 30


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    CLOUD = OpenStackCloud.up(compute="kumoi", proxy=True)
    unittest.addModuleCleanup(CLOUD.release)
    if not CLOUD.has_guests():
        skip("no guests (/dev/kvm, kumoi-vmm), so nothing to attach volumes to")
    CLOUD.ids["hotplug"] = hotplug_image()


def hotplug_image():
    """The test guest with a kernel that lets disks come and go."""
    guests = ROOT / "tests/guests/linux"
    folders = [subprocess.run(words, capture_output=True, text=True, check=False) for words in
               ([str(guests / "build.sh"), "full"], [str(guests / "make-root.sh")])]
    if any(done.returncode for done in folders):
        skip("the test guest cannot be built here: " + "".join(done.stderr for done in folders))
    kernel, root = (pathlib.Path(done.stdout.strip()) for done in folders)

    def image(name, file, **properties):
        found = CLOUD.rest.get("image", f"/images?name={name}&status=active")["images"]
        if found:
            return found[0]["id"]
        made = CLOUD.rest.post("image", "/images", {"name": name, "visibility": "public", **properties})["id"]
        CLOUD.rest.request("PUT", "image", f"/images/{made}/file", file.read_bytes(),
                           {"Content-Type": "application/octet-stream"}, timeout=600)
        return made
    kernel_id = image("hotplug-kernel", kernel / "vmlinux", disk_format="aki", container_format="aki")
    return image("hotplug", root / "kumoi-tiny.raw", disk_format="raw", container_format="bare", kernel_id=kernel_id,
                 os_command_line="console=ttyS0 root=/dev/vda rw quiet")


class Shell:
    """The shell on a guest's serial console."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(1)
        wait_until(lambda: self._connect(str(path)), 60, f"console {path}")
        self.seen, self.number = "", 0

    def _connect(self, path):
        try:
            self.socket.connect(path)
            return True
        except (FileNotFoundError, ConnectionRefusedError):
            return False

    def _read(self):
        with contextlib.suppress(TimeoutError):
            self.seen += self.socket.recv(65536).decode(errors="replace")

    def run(self, command, seconds=60):
        """What the command prints. The marks are not in the echoed line itself."""
        self.number += 1
        self.seen = ""
        self.socket.sendall(f"echo ST''ART{self.number}; {command}; echo E''ND{self.number}=$?\n".encode())
        end = time.monotonic() + seconds * PATIENCE
        while time.monotonic() < end:
            self._read()
            found = re.search(rf"START{self.number}\r?\n(.*?)END{self.number}=(\d+)", self.seen, re.S)
            if found:
                return found.group(1).replace("\r", "").strip(), int(found.group(2))
        raise AssertionError(f"guest: {command}: no answer: {self.seen[-2000:]}")

    def check(self, command, seconds=60):
        output, status = self.run(command, seconds)
        assert status == 0, f"guest: {command}: {status}: {output}"
        return output

    def wait_ready(self, seconds=300):
        """A prompt, after a key: what is typed before there is a shell is lost or echoed."""
        end = time.monotonic() + seconds * PATIENCE
        while "# " not in self.seen:
            if time.monotonic() > end:
                raise AssertionError(f"the guest's shell does not answer: {self.seen[-1000:]}")
            self.socket.sendall(b"\n")
            time.sleep(2)
            self._read()
        self.check("true", 120)


class Volumes(unittest.TestCase):
    def setUp(self):
        self.servers = []

    def volume(self, backend="iscsi", size=1, **more):
        volume = CLOUD.rest.post("volumev3", "/volumes", {"volume": {"size": size, "volume_type": backend, **more}})
        volume = volume["volume"]["id"]
        self.addCleanup(self.remove_volume, volume)
        self.wait_volume(volume, "available")
        return volume

    def volume_status(self, volume):
        try:
            return CLOUD.rest.get("volumev3", f"/volumes/{volume}")["volume"]["status"]
        except rest.Refused as refused:
            if refused.status != 404:
                raise
            return "gone"

    def wait_volume(self, volume, status, seconds=120):
        wait_until(lambda: self.volume_status(volume) == status, seconds, f"volume {volume} is {status}")

    def remove_volume(self, volume):
        if self.volume_status(volume) != "gone":
            with contextlib.suppress(rest.Refused):
                CLOUD.rest.post("volumev3", f"/volumes/{volume}/action", {"os-force_delete": {}})
            self.wait_volume(volume, "gone")

    def server(self, node=NODES[0], **more):
        body = {"name": "volumes", "flavorRef": CLOUD.ids["m1.nano"], "networks": "none", "host": node, **more}
        if "block_device_mapping_v2" not in more:
            body["imageRef"] = CLOUD.ids["hotplug"]
        server = CLOUD.rest.post("compute", "/servers", {"server": body})["server"]["id"]
        self.addCleanup(self.remove_server, server)
        CLOUD.wait_status(server, "ACTIVE", 240)
        return server

    def remove_server(self, server):
        with contextlib.suppress(rest.Refused):
            CLOUD.rest.delete("compute", f"/servers/{server}")
        CLOUD.wait_gone(server, 120)

    def shell(self, server, node=NODES[0]):
        shell = Shell(CLOUD.state / node / "instances" / server / "console.sock")
        shell.wait_ready()
        return shell

    def attach(self, server, volume):
        CLOUD.rest.post("compute", f"/servers/{server}/os-volume_attachments", {"volumeAttachment": {"volumeId": volume}})
        self.wait_volume(volume, "in-use")

    def detach(self, server, volume, seconds=240):
        CLOUD.rest.delete("compute", f"/servers/{server}/os-volume_attachments/{volume}")
        self.wait_volume(volume, "available", seconds)
        wait_until(lambda: volume not in self.attached(server), 60, "Nova knows no attachment")

    def attached(self, server):
        found = CLOUD.rest.get("compute", f"/servers/{server}/os-volume_attachments")["volumeAttachments"]
        return [one["volumeId"] for one in found]

    @staticmethod
    def file(volume, backend="iscsi"):
        """Where Cinder keeps it."""
        return CLOUD.state / ("nfs" if backend == "nfs" else "cinder/volumes") / f"volume-{volume}"

    @staticmethod
    def disk(shell, volume):
        """The guest's name of a volume, by its serial."""
        name = shell.check(f"grep -l {volume[:20]} /sys/block/*/serial | cut -d/ -f4")
        assert name, "the guest has no such disk"
        return name

    def wait_disk(self, shell, volume):
        def there():
            output, _ = shell.run(f"grep -l {volume[:20]} /sys/block/*/serial")
            return "/sys/block" in output
        wait_until(there, 60, "the guest sees the disk", 0.5)
        return self.disk(shell, volume)

    @staticmethod
    def daemons(node=NODES[0]):
        """pid of each volume's back end."""
        records = [json.loads(file.read_text()) for file in (CLOUD.state / node / "volumes").glob("*/record.json")]
        return {record["volume"]: record["pid"] for record in records}

    def assert_no_daemons(self, node=NODES[0]):
        wait_until(lambda: not self.daemons(node), 60, "no back end is left")

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
