"""What the tests of volumes share: the cloud with an image that can hot-plug, the shell on a guest's console, and
servers and volumes that are made, looked at and removed."""
import contextlib
import json
import pathlib
import re
import socket
import subprocess
import time
import unittest

from openstack_cloud import NODES, PATIENCE, ROOT, OpenStackCloud, rest, skip, wait_until

CLOUD = None
GIB = 1 << 30


def bring_up(**settings):
    """The cloud; ends it after the module."""
    global CLOUD  # pylint: disable=global-statement
    CLOUD = OpenStackCloud.up(compute="kumoi", proxy=True, **settings)
    unittest.addModuleCleanup(CLOUD.release)
    if not CLOUD.has_guests():
        skip("no guests (/dev/kvm, kumoi-vmm), so nothing to attach volumes to")
    CLOUD.ids["hotplug"] = hotplug_image("hotplug")
    return CLOUD


def hotplug_image(of_name, **more):
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
    return image(of_name, root / "kumoi-tiny.raw", disk_format="raw", container_format="bare", kernel_id=kernel_id,
                 **{"os_command_line": "console=ttyS0 root=/dev/vda rw quiet", **more})


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


class VolumeCase(unittest.TestCase):
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
