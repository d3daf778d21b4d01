#!/usr/bin/python3
"""kill -9 of kumoi-vmm and of kumoi-compute in the middle of backups: those before it stay whole, what was cut
short leaves nothing behind, and the next one works. The guest writes to its whole disk all the time."""
import json
import os
import pathlib
import re
import subprocess
import unittest

from cloud import BUILD, CLI, VMM, Cloud, skip, wait_until
from documented_commands import Administrator

MICRO = pathlib.Path(os.environ.get("KUMOI_MICRO_GUESTS", BUILD / "tests/guests/micro"))
IMG = BUILD / "bin/kumoi-img"
NO_NIC = ("--os-compute-api-version", "2.37")
DISK_BYTES = 128 << 20
CHUNK = 16384          # what the guest writes at once
CUT_BYTES = 1 << 20    # of a copy that is there when something is killed
ATTEMPTS = 5           # a copy may be over before the kill


def img(*words):
    done = subprocess.run([str(IMG), *words], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise AssertionError(f"kumoi-img {words}: {done.returncode}\n{done.stdout}{done.stderr}")


def allocated(path):
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0


class BackupKilled(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cloud = Cloud(driver="kumoi", options=f"network real_devices = false\nkumoi vmm_path = {VMM}")
        cls.addClassCleanup(cls.cloud.remove)
        cls.cloud.start()
        cls.addClassCleanup(cls.cloud.stop)
        os_ = cls.cloud.openstack
        with open(cls.cloud.state / "disk.img", "wb") as file:
            file.truncate(DISK_BYTES)
        kernel = os_("image", "create", "kernel", "--disk-format", "aki", "--container-format", "aki",
                     "--file", str(MICRO / "waves.elf"), "-f", "json")
        os_("image", "create", "waves", "--disk-format", "raw", "--container-format", "bare",
            "--property", f"kernel_id={kernel['id']}", "--property", "os_command_line=waves=0",
            "--file", str(cls.cloud.state / "disk.img"))
        os_("flavor", "create", "micro", "--vcpus", "1", "--ram", "32", "--disk", "0")

    def setUp(self):
        self.cloud.openstack(*NO_NIC, "server", "create", "web", "--image", "waves", "--flavor", "micro",
                             "--nic", "none", "--wait")
        self.addCleanup(self.cloud.run, "server", "delete", "--wait", "web", check=False)
        self.server = self.show()["id"]
        self.folder = self.cloud.state / "instances" / self.server
        self.backups = self.cloud.state / f"backups-{self.server}"
        self.wait_for_wave()

    def show(self):
        return self.cloud.openstack("server", "show", "web", "-f", "json")

    def wait_for_status(self, status):
        def look():
            server = self.show()
            return server["status"] == status and server["OS-EXT-STS:task_state"] is None
        wait_until(look, 60, f"the server is {status}\n{self.cloud.logs()}", interval=0.2)

    def wait_for_wave(self):
        """Until the guest has written all of its disk once more."""
        log = self.folder / "console.log"
        before = log.read_bytes().count(b"waves ") if log.exists() else 0
        wait_until(lambda: log.exists() and log.read_bytes().count(b"waves ") > before, 120, "another wave")

    def pid(self):
        return json.loads((self.folder / "process.json").read_text())["pid"]

    def command(self, *words):
        return [str(CLI), "--state-path", str(self.cloud.state), "server", "backup", *words]

    def backup(self, *more, fails=False):
        """Its output."""
        done = subprocess.run(self.command("create", "web", str(self.backups), *more),
                              capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode != 0, fails, done.stdout + done.stderr + self.cloud.logs())
        return done.stdout + done.stderr

    def listed(self):
        out = subprocess.run(self.command("list", str(self.backups), "-f", "json"), check=True,
                             capture_output=True, text=True, timeout=60).stdout
        return [(row["id"], row["mode"], row["state"]) for row in json.loads(out)]

    def files(self):
        return sorted(path.name for path in self.backups.iterdir())

    def content(self, path):
        raw = self.cloud.state / "check.raw"
        img("convert", "-f", "qcow2", "-O", "raw", str(path), str(raw))
        content = raw.read_bytes()
        raw.unlink()
        return content

    def wave_of(self, path):
        """The newest wave of a disk that is as at one instant; fails for any other."""
        stamps = memoryview(self.content(path)).cast("Q")[::512 // 8].tolist()
        self.assertEqual(len(stamps), DISK_BYTES // 512)
        steps = [at * 512 for at in range(1, len(stamps)) if stamps[at] != stamps[at - 1]]
        self.assertLessEqual(len(steps), 1, "more than one instant is in the copy")
        for at in steps:
            self.assertEqual((at % CHUNK, stamps[0]), (0, stamps[-1] + 1))
        return stamps[0]

    def whole(self, name):
        img("check", str(self.backups / name))
        return self.wave_of(self.backups / name)

    def when_begun(self, path, over=lambda: False):
        """Once part of a copy is at path, or it is over already."""
        wait_until(lambda: allocated(path) >= CUT_BYTES or over(), 60, f"a copy at {path}\n{self.cloud.logs()}",
                   interval=0.001)

    def start_backup(self, number, *more):
        """The command, with part of its copy written."""
        command = subprocess.Popen(self.command("create", "web", str(self.backups), *more),
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(command.communicate)
        self.when_begun(self.backups / f"{number:04}.qcow2", lambda: command.poll() is not None)
        return command

    def kill_guest(self):
        os.kill(self.pid(), 9)
        self.wait_for_status("SHUTOFF")

    def start_guest(self):
        self.cloud.openstack("server", "start", "web")
        self.wait_for_status("ACTIVE")
        self.wait_for_wave()

    def cut_an_incremental(self):
        """The number of the last backup before it."""
        for number in range(1, 2 * ATTEMPTS, 2):
            self.backup()
            self.wait_for_wave()
            command = self.start_backup(number + 1, "--incremental")
            self.kill_guest()
            said = command.communicate(timeout=60)[0]
            if command.returncode:
                self.assertIn("backing up web", said)
                return number
            self.start_guest()  # it was faster than the kill
        self.fail("every copy was over before the kill")

    def test_kumoi_vmm_is_killed(self):
        last = self.cut_an_incremental()
        self.whole(f"{last:04}.qcow2")
        self.assertEqual(self.listed()[-1], (last + 1, "incremental", "begun"))
        self.assertNotIn(f"{last + 1:04}.qcow2", self.files())
        self.assertIn("cut short", self.backup("--incremental", fails=True))
        self.backup()  # of the stopped server
        full = f"{last + 2:04}.qcow2"
        img("check", str(self.folder / "disk"))
        stopped = self.whole(full)
        self.assertTrue(self.content(self.folder / "disk") == self.content(self.backups / full))
        self.start_guest()
        self.backup("--incremental")
        self.whole(f"{last + 3:04}.qcow2")
        self.assertEqual(self.whole(full), stopped)
        self.assertEqual([state for _, _, state in self.listed()], ["whole"] * len(self.listed()))
        self.assertEqual(len(self.files()), len(self.listed()) + 1)  # and backup.json

    def test_the_command_is_killed(self):
        self.backup()
        last = 1
        for _ in range(ATTEMPTS):
            last += 1
            command = self.start_backup(last)
            command.kill()
            command.wait()
            if self.listed()[-1] == (last, "full", "begun"):
                break
        self.assertEqual(self.listed()[-1][2], "begun", "every copy was over before the kill")
        self.assertIn("cut short", self.backup("--incremental", fails=True))
        self.backup()  # whatever kumoi-vmm was still at
        self.whole(f"{last + 1:04}.qcow2")
        self.whole("0001.qcow2")
        self.assertEqual({state for _, _, state in self.listed()}, {"whole"})
        self.assertEqual(len(self.files()), len(self.listed()) + 1)

    def test_kumoi_compute_is_killed(self):
        self.backup()
        pid = self.pid()
        for number in (2, 3):
            self.wait_for_wave()
            command = self.start_backup(number, "--incremental")
            self.cloud.kill()
            self.cloud.start()
            said = command.communicate(timeout=60)[0]
            self.assertEqual(command.returncode, 0, said)
        waves = [self.whole(f"{number:04}.qcow2") for number in (1, 2, 3)]
        self.assertEqual(waves, sorted(waves))
        self.assertLess(waves[0], waves[2])
        self.assertEqual([state for _, _, state in self.listed()], ["whole"] * 3)
        self.assertEqual(self.files(), ["0001.qcow2", "0002.qcow2", "0003.qcow2", "backup.json"])
        self.wait_for_status("ACTIVE")
        self.assertEqual(self.pid(), pid)

    def test_documented_commands(self):
        admin = Administrator(self, self.cloud)

        def third_and_no_output():
            (admin.folder / "web-1.qcow2").unlink(missing_ok=True)
            if "0003.qcow2" not in self.files():
                self.backup("--incremental")

        def stop():
            self.cloud.openstack("server", "stop", "web")
            self.wait_for_status("SHUTOFF")
        admin.runs("server-backup.md", {"kumoi server backup restore /backup/web-1 --id": third_and_no_output,
                                        "kumoi server backup restore /backup/web-1 --server": stop},
                   self.as_here)
        third = self.content(self.backups / "0003.qcow2")
        self.assertTrue((admin.folder / "web-1.qcow2").read_bytes() == third)  # raw: the variant came last
        self.assertTrue(self.content(self.folder / "disk") == third)
        self.start_guest()

    def as_here(self, line):
        return re.sub(r"\bweb-1(?= )|\bweb-1$", "web", line.replace("/backup/web-1", str(self.backups)))

    def copies(self):
        folder = self.cloud.state / "instances" / "_snapshots"
        return [path.name for path in folder.iterdir()] if folder.exists() else []

    def images(self):
        return [row["Status"] for row in self.cloud.openstack("image", "list", "--property", "image_type=backup",
                                                              "-f", "json")]

    def test_a_backup_of_the_api_is_cut(self):
        """Either is killed while the copy is made: the image comes to be, or to nothing; the next one comes."""
        for victim in ("kumoi-compute", "kumoi-vmm"):
            with self.subTest(victim=victim):
                self.cloud.openstack("server", "backup", "create", "web", "--name", "nightly", "--type", "daily",
                                     "--rotate", "9")
                self.when_begun(self.cloud.state / "instances" / "_snapshots" / self.server)
                if victim == "kumoi-vmm":
                    self.kill_guest()
                    self.start_guest()
                else:
                    self.cloud.kill()
                    self.cloud.start()
                self.wait_for_status("ACTIVE")
                self.assertEqual((self.copies(), set(self.images()) - {"active"}), ([], set()))
                count = len(self.images())
                self.cloud.openstack("server", "backup", "create", "web", "--name", f"after-{victim}",
                                     "--type", "daily", "--rotate", "9", "--wait")
                self.wait_for_status("ACTIVE")
                self.assertEqual((self.copies(), self.images()), ([], ["active"] * (count + 1)))


if __name__ == "__main__":
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        skip("/dev/kvm cannot be opened")
    if not (MICRO / "waves.elf").exists():
        skip(f"{MICRO}/waves.elf is not built")
    unittest.main()
