"""Backups, live snapshots, commits and flattening of a disk that a real guest writes to all the time."""
import fcntl
import json
import os
import socket
import struct
import subprocess
import tempfile

import harness
import snapshot_test

MIB = 8
CHUNK = 16384
UUID = "11111111-2222-4333-8444-555555555555"


def program(name):
    path = os.path.join(os.path.dirname(harness.VMM), name)
    if not os.path.exists(path):
        harness.skip(f"{path} is not built")
    return path


class DiskJobs(harness.Test):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="kumoi-it-")
        self.addCleanup(temporary.cleanup)
        self.folder = temporary.name
        self.img = program("kumoi-img")

    def path(self, name):
        return os.path.join(self.folder, name)

    def boot(self):
        with open(self.path("base"), "wb") as file:
            file.truncate(MIB << 20)
        harness.run(self.img, "create", "-b", "base", "-F", "raw", self.path("disk"))
        self.guest = harness.Guest(self, harness.micro("waves"), disks=[
            {"id": "root", "path": self.path("disk"), "format": "qcow2"}])
        self.guest.expect(r"waves 1", 60)
        self.control = self.guest.control()
        self.control.call("subscribe")

    def call(self, method, *files, **params):
        """`files` go along as descriptors: a sandboxed kumoi-vmm can open nothing by itself."""
        descriptors = [os.open(file, os.O_RDWR | os.O_CREAT, 0o600) for file in files]
        control = self.control
        request = {"id": control.next_id, "method": method, "params": params, "fds": list(files)}
        socket.send_fds(control.socket, [json.dumps(request).encode() + b"\n"], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        while (message := control.read_message()).get("id") != control.next_id:
            control.events.append(message)
        control.next_id += 1
        self.assertNotIn("error", message, method)
        return message["result"]

    def do(self, method, *files, **params):
        answer = self.call(method, *files, disk="root", **params)
        if method != "disk_snapshot":
            end = self.control.wait_event("disk_job_done")["data"]
            self.assertEqual(end["state"], "done")
        return answer

    def wave_of(self, name, in_use=False):
        """The newest wave of a disk that is as at one instant; fails for any other."""
        raw = self.path("check.raw")
        harness.run(self.img, "convert", "-f", "qcow2", "-O", "raw", self.path(name), raw)
        with open(raw, "rb") as file:
            disk = file.read()
        os.remove(raw)
        self.assertEqual(len(disk), MIB << 20)
        stamps = [struct.unpack_from("<Q", disk, at)[0] for at in range(0, len(disk), 512)]
        steps = [at * 512 for at in range(1, len(stamps)) if stamps[at] != stamps[at - 1]]
        self.assertLessEqual(len(steps), 1, "more than one instant is in the copy")
        for at in steps:
            self.assertEqual(at % CHUNK, 0)
            self.assertEqual(stamps[0], stamps[-1] + 1)
        if os.path.exists("/usr/bin/qemu-img") and not in_use:  # it wants a lock
            harness.run("qemu-img", "check", "-q", "-f", "qcow2", self.path(name))
        return stamps[0]

    def test_backups_are_each_one_instant(self):
        self.boot()
        self.do("disk_backup", self.path("0"), target=self.path("0"), bitmap="b")
        for number in (1, 2):
            self.guest.expect(r"waves \d+", 60)
            target = self.path(str(number))
            self.do("disk_backup", target, target=target, bitmap="b", mode="incremental", backing=str(number - 1))
        waves = [self.wave_of(str(number)) for number in (0, 1, 2)]
        self.assertEqual(waves, sorted(waves))
        self.assertLess(waves[0], waves[2])
        self.guest.expect(r"waves \d+", 60)
        self.control.call("quit")
        self.assertEqual(self.guest.wait_exit(), 0, self.guest.story())
        self.assertGreaterEqual(self.wave_of("disk"), waves[2])

    def test_snapshot_commit_and_flatten(self):
        self.boot()
        stopped = self.do("disk_snapshot", self.path("overlay"), overlay=self.path("overlay"))["stopped_ns"]
        print(f"live snapshot: the guest stood still for {stopped / 1e6:.1f} ms")
        before = self.wave_of("disk", in_use=True)  # what is below the overlay
        self.guest.expect(r"waves \d+", 60)
        self.do("disk_commit", self.path("disk"))
        os.remove(self.path("overlay"))
        self.guest.expect(r"waves \d+", 60)
        self.do("disk_flatten")
        os.remove(self.path("base"))
        self.guest.expect(r"waves \d+", 60)
        self.control.call("quit")
        self.assertEqual(self.guest.wait_exit(), 0, self.guest.story())
        self.assertGreater(self.wave_of("disk"), before)

    def test_live_save_has_memory_and_disk_of_one_instant(self):
        """The guest goes on in an overlay; from the file a second one goes on in another overlay of the same disk."""
        self.boot()
        saved, overlay = self.path("saved"), self.path("overlay")
        answer = self.call("save", saved, overlay, path=saved, mode="live",
                           overlays=[{"disk": "root", "overlay": overlay, "backing": "disk"}])
        self.assertEqual(answer["overlays"], [{"disk": "root", "overlay": overlay, "below": self.path("disk")}])
        self.control.wait_event("save_done")
        print(f"live save with its disk: the guest stood still for {answer['stopped_ns'] / 1e6:.1f} ms")
        self.guest.expect(r"waves \d+", 60)
        self.control.call("quit")
        self.assertEqual(self.guest.wait_exit(), 0, self.guest.story())
        before = self.wave_of("disk")
        first = self.wave_of("overlay")
        self.assertGreater(first, before)
        second = self.path("second")
        harness.run(self.img, "create", "-b", "disk", "-F", "qcow2", second)
        again = snapshot_test.Restored(self, saved)
        again.start_from({**self.guest.config, "disks": [{"id": "root", "path": second, "format": "qcow2"}]})
        again.expect(r"waves \d+", 60)
        again.expect(r"waves \d+", 60)
        control = again.control()
        control.call("quit")
        self.assertEqual(again.wait_exit(), 0, again.story())
        self.assertGreater(self.wave_of("second"), before)
        self.assertEqual(self.wave_of("overlay"), first)

    def kumoi(self, *words, fails=False):
        done = subprocess.run([program("kumoi"), "--instances-path", self.path("instances"), *words],
                              capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode != 0, fails, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_the_command(self):
        self.boot()
        os.mkdir(self.path("instances"))
        server = os.path.join(self.path("instances"), UUID)
        os.symlink(self.guest.folder, server)
        os.rename(self.path("base"), self.guest.path("base"))  # the same file, for the guest that has it open
        os.rename(self.path("disk"), self.guest.path("disk"))
        for name, content in (("config.json", {"name": "web"}), ("disk.info", {"disk": "qcow2"})):
            with open(self.guest.path(name), "w") as file:
                json.dump(content, file)
        backups = self.path("backups")
        self.assertIn("no backup before it",
                      self.kumoi("server", "backup", "create", "web", backups, "--incremental", fails=True))
        self.kumoi("server", "backup", "create", "web", backups)
        self.guest.expect(r"waves \d+", 60)
        self.kumoi("server", "backup", "create", "web", backups, "--incremental")
        full, second = self.wave_of("backups/0001.qcow2"), self.wave_of("backups/0002.qcow2")
        self.assertGreater(second, full)
        with open(self.guest.path("lock"), "w") as lock:  # as kumoi-compute leaves it to the process
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.assertIn("stop it first", self.kumoi("server", "backup", "restore", backups, "--server", "web",
                                                      fails=True))
        self.control.call("quit")
        self.guest.wait_exit()
        self.assertIn("is stopped",
                      self.kumoi("server", "backup", "create", "web", backups, "--incremental", fails=True))
        self.kumoi("server", "backup", "create", "web", backups)
        rows = json.loads(self.kumoi("server", "backup", "list", backups, "-f", "json"))
        self.assertEqual([(row["mode"], row["state"]) for row in rows],
                         [("full", "whole"), ("incremental", "whole"), ("full", "whole")])
        self.kumoi("server", "backup", "restore", backups, "--id", "2", "--output", self.path("out"))
        self.assertEqual(self.wave_of("out"), second)
        self.kumoi("server", "backup", "restore", backups, "--id", "1", "--server", "web")
        os.rename(self.guest.path("disk"), self.path("restored"))
        self.assertEqual(self.wave_of("restored"), full)


if __name__ == "__main__":
    harness.main()
