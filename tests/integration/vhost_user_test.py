"""Disks that a real qemu-storage-daemon serves over vhost-user: raw and qcow2, NBD behind it, limits,
and a daemon that is killed and started again under a guest that writes and verifies all the time."""
import os
import re
import shutil
import subprocess

import harness


class VhostUser(harness.Test):
    def setUp(self):
        for program in ("qemu-storage-daemon", "qemu-img", "qemu-nbd"):
            if shutil.which(program) is None:
                harness.skip(f"{program} is not installed (packages qemu-system-common, qemu-utils)")
        self.folder = os.path.dirname(self.disk(1))

    def path(self, name):
        return os.path.join(self.folder, name)

    def image(self, name, form, mib=8):
        path = self.path(name)
        harness.run("qemu-img", "create", "-q", "-f", form, path, f"{mib}M")
        return path

    def background(self, *command):
        with open(self.path("daemons.log"), "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       preexec_fn=harness.keeper.end_with_me)
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        process.kill()
        process.wait()

    def listening(self, path):
        """Whether a process listens there; asking by a connection would be the one that counts."""
        with open("/proc/net/unix") as sockets:
            return any(line.split()[-1] == path and line.split()[3] == "00010000"
                       for line in sockets)

    def serve(self, socket, *blockdevs, queues=2):
        if os.path.exists(socket):
            os.unlink(socket)
        process = self.background(
            "qemu-storage-daemon", *(word for blockdev in blockdevs for word in ("--blockdev", blockdev)),
            "--export", "type=vhost-user-blk,id=e,node-name=disk,writable=on,"
            f"num-queues={queues},addr.type=unix,addr.path={socket}")
        harness.wait_until(lambda: self.listening(socket), 20, "qemu-storage-daemon")
        return process

    def run_blk(self, socket, cmdline="", queues=1):
        guest = harness.Guest(self, harness.micro("blk"), cmdline, name="blk",
                              disks=[{"id": "data", "vhost_user": socket, "serial": "V-1",
                                      "queues": queues}])
        line = guest.expect(r"micro: blk (ok|FAIL)[^\n]*\n", 60)
        self.assertEqual(line.group(1), "ok", guest.story())
        self.assertEqual(guest.wait_exit(), 0, guest.story())
        self.assertIn("id=V-1", guest.output())
        self.assertIn(f"sectors={8 * 2048}", line.group(0))
        return guest

    def test_a_raw_image(self):
        raw = self.image("disk.raw", "raw")
        socket = self.path("raw.sock")
        self.serve(socket, f"driver=file,node-name=disk,filename={raw}")
        self.run_blk(socket, queues=2)
        with open(raw, "rb") as file:  # the guest's last chunk ends at the disk's end
            self.assertNotEqual(file.read()[-16384:], bytes(16384))

    def test_a_qcow2_image(self):
        qcow2 = self.image("disk.qcow2", "qcow2")
        socket = self.path("qcow2.sock")
        daemon = self.serve(socket, f"driver=file,node-name=file,filename={qcow2}",
                            "driver=qcow2,node-name=disk,file=file")
        self.run_blk(socket)
        self.end(daemon)
        harness.run("qemu-img", "check", "-q", qcow2)

    def test_an_nbd_server_behind_it(self):
        raw = self.image("nbd.raw", "raw")
        nbd, socket = self.path("nbd.sock"), self.path("front.sock")
        self.background("qemu-nbd", "-f", "raw", "-k", nbd, "-t", "-e", "4", raw)
        harness.wait_until(lambda: self.listening(nbd), 20, "qemu-nbd")
        self.serve(socket, f"driver=nbd,node-name=disk,server.type=unix,server.path={nbd}")
        self.run_blk(socket)
        with open(raw, "rb") as file:
            self.assertNotEqual(file.read()[-16384:], bytes(16384))

    def test_a_killed_daemon_comes_back_and_nothing_is_lost(self):
        raw = self.image("disk.raw", "raw")
        socket = self.path("raw.sock")
        blockdev = f"driver=file,node-name=disk,filename={raw}"
        daemon = self.serve(socket, blockdev)
        guest = harness.Guest(self, harness.micro("blk"), "rounds=8", name="blk",
                              disks=[{"id": "data", "vhost_user": socket, "serial": "V-1",
                                      "limits": {"total_iops_sec": 50}}])
        guest.expect(r"round=2\n", 60)
        for round_number in (4, 6):
            daemon.kill()
            daemon.wait()
            daemon = self.serve(socket, blockdev)
            guest.expect(rf"round={round_number}\n", 60)
        control = guest.control()
        answer = control.call("set_disk_limits", disk="data", limits={"total_iops_sec": 100000})
        self.assertEqual(answer["limits"], {"total_iops_sec": 100000})
        self.assertEqual(control.ask("set_disk_limits", disk="no", limits={})["error"]["code"],
                         "not_found")
        self.assertEqual(control.call("set_disk_limits", disk="data", limits={})["limits"], {})
        line = guest.expect(r"micro: blk (ok|FAIL)[^\n]*\n", 120)
        self.assertEqual(line.group(1), "ok", guest.story())
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_without_a_daemon_the_guest_does_not_start(self):
        guest = harness.Guest(self, harness.micro("blk"), name="blk",
                              disks=[{"id": "data", "vhost_user": self.path("nobody.sock")}])
        self.assertNotEqual(guest.wait_exit(), 0)
        self.assertRegex(guest.story(), re.escape(self.path("nobody.sock")))


if __name__ == "__main__":
    harness.main()
