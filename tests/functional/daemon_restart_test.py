#!/usr/bin/python3
"""kill -9 of kumoi-compute with real guests: they live on, are found again, and whatever verb was under way
is finished or undone. The guests are micro guests without a network, so no rights beyond /dev/kvm are needed."""
import json
import os
import pathlib
import time
import unittest

from cloud import BUILD, VMM, Cloud, skip, wait_until

MICRO = pathlib.Path(os.environ.get("KUMOI_MICRO_GUESTS", BUILD / "tests/guests/micro"))
NO_NIC = ("--os-compute-api-version", "2.37")
DELAYS = (0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.25, 0.4)  # seconds between a request and the kill


class DaemonRestart(unittest.TestCase):
    @classmethod
    def setUpClass(cls):  # one cloud for all: the client in this process remembers its endpoints
        cls.cloud = Cloud(driver="kumoi",
                          options=f"network real_devices = false\nkumoi vmm_path = {VMM}")
        cls.addClassCleanup(cls.cloud.remove)
        cls.cloud.start()
        cls.addClassCleanup(cls.cloud.stop)
        os_ = cls.cloud.openstack
        (cls.cloud.state / "disk.img").write_bytes(os.urandom(1 << 20))
        kernel = os_("image", "create", "kernel", "--disk-format", "aki", "--container-format", "aki",
                     "--file", str(MICRO / "hello.elf"), "-f", "json")
        os_("image", "create", "beat", "--disk-format", "raw", "--container-format", "bare",
            "--property", f"kernel_id={kernel['id']}", "--property", "os_command_line=beat",
            "--file", str(cls.cloud.state / "disk.img"))
        os_("flavor", "create", "micro", "--vcpus", "1", "--ram", "32", "--disk", "1")

    def setUp(self):
        self.addCleanup(self.delete_all)

    def create(self, name, *more):
        self.cloud.openstack(*NO_NIC, "server", "create", name, "--image", "beat", "--flavor", "micro",
                             "--nic", "none", *more)

    def show(self, name):
        return self.cloud.openstack("server", "show", name, "-f", "json")

    def settled(self, name, seconds=40):
        """The server once no task is left."""
        def look():
            server = self.show(name)
            return server if server["OS-EXT-STS:task_state"] is None and server["status"] != "BUILD" else None
        return wait_until(look, seconds, f"{name} has no task\n{self.cloud.logs()}")

    def pid(self, server):
        folder = self.cloud.state / "instances" / server["id"]
        return json.loads((folder / "process.json").read_text())["pid"]

    def folders(self):
        return {path.name for path in (self.cloud.state / "instances").iterdir()} - {"_base"}

    def processes(self):
        """Pids of the guests of this cloud: of each kumoi-vmm the machine, or a launcher that has none."""
        parents = {}
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                command = (path / "cmdline").read_bytes().split(b"\0")
                state, parent = (path / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            except (OSError, IndexError):
                continue
            if command[0].endswith(b"kumoi-vmm") and str(self.cloud.state).encode() in b"".join(command):
                if state != "Z":
                    parents[int(path.name)] = int(parent)
        return set(parents) - set(parents.values())

    def delete_all(self):
        for row in self.cloud.openstack("server", "list", "-f", "json"):
            self.cloud.run("server", "delete", "--wait", row["Name"], check=False)

    def restart(self):
        self.cloud.kill()
        self.cloud.start()

    def test_a_guest_outlives_the_daemon(self):
        self.create("beat-1", "--wait")
        server = self.show("beat-1")
        pid = self.pid(server)
        self.cloud.kill()
        self.assertEqual(self.processes(), {pid})
        self.cloud.start()
        self.assertEqual(self.settled("beat-1")["status"], "ACTIVE")
        self.assertEqual(self.pid(server), pid)
        self.assertIn("hello beat", self.cloud.openstack("console", "log", "show", "beat-1"))
        self.cloud.openstack("server", "stop", "beat-1")
        wait_until(lambda: self.show("beat-1")["status"] == "SHUTOFF", 30, "stopped by the new daemon")
        self.assertEqual(self.processes(), set())

    def test_a_guest_that_died_meanwhile_is_stopped(self):
        self.create("beat-1", "--wait")
        pid = self.pid(self.show("beat-1"))
        self.cloud.kill()
        os.kill(pid, 9)
        self.cloud.start()
        wait_until(lambda: self.show("beat-1")["status"] == "SHUTOFF", 30, "the dead guest's server is SHUTOFF")

    def test_a_build_cut_short_is_finished_or_undone(self):
        for number, delay in enumerate(DELAYS):
            with self.subTest(delay=delay):
                self.create(f"cut-{number}")
                time.sleep(delay)
                self.restart()
                server = self.settled(f"cut-{number}")
                self.assertIn(server["status"], ("ACTIVE", "ERROR"))
                alive = {self.pid(server)} if server["status"] == "ACTIVE" else set()
                self.assertEqual(self.processes(), alive)
                self.assertEqual(self.folders(), {server["id"]} if alive else set())
                self.cloud.openstack("server", "delete", "--wait", f"cut-{number}")
                self.assertEqual((self.processes(), self.folders()), (set(), set()))

    def test_a_delete_cut_short_is_finished(self):
        for number, delay in enumerate(DELAYS[:4]):
            with self.subTest(delay=delay):
                self.create(f"gone-{number}", "--wait")
                self.cloud.openstack("server", "delete", f"gone-{number}")
                time.sleep(delay)
                self.restart()
                wait_until(lambda: not self.cloud.openstack("server", "list", "-f", "json"), 30,
                           f"the server is gone\n{self.cloud.logs()}")
                wait_until(lambda: not self.folders() and not self.processes(), 30, "nothing is left")


if __name__ == "__main__":
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        skip("/dev/kvm cannot be opened")
    if not (MICRO / "hello.elf").exists():
        skip(f"{MICRO}/hello.elf is not built")
    unittest.main()
