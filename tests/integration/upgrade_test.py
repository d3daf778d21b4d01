"""Live upgrade: a running guest goes on in a newer kumoi-vmm on the same host, or stays where it was."""
import os
import signal
import socket
import subprocess
import time

import disk_jobs_test
import harness
from migration_agents import DeadJournal
from migration_harness import Link
from upgrade_harness import Upgrade, another_program, upgrade


MASK = (1 << 64) - 1
PAGES = 256  # of the guest "chain" with mib=1


def chain_hash(rounds):
    """What chain.c says after so many rounds over PAGES pages, none of which was lost or run twice."""
    value = 1
    for number in range(rounds):
        for page in range(PAGES):
            value ^= ((page ^ number) + 0x9e3779b97f4a7c15 + (value << 6 & MASK) + (value >> 2)) & MASK
            value = value * 0x2545f4914f6cdd1d & MASK
    return value


class Upgrades(harness.Test):
    def link(self, **wire):
        return Link(self, streams=0, wired=bool(wire), **wire)

    def chain(self, **members):
        """Checks each page, each clock and the order of its own work for ever."""
        guest = harness.Guest(self, harness.micro("chain"), "mib=1", **members)
        guest.expect("micro: chain round=2 ", 60)
        return guest

    def goes_on(self, guest):
        for _ in range(3):  # the first line may be from before
            found = guest.expect(r"micro: chain (round=(\d+) hash=(\w+) |FAIL[^\n]*)", 60)
            self.assertIsNotNone(found.group(2), guest.story())
        self.assertEqual(found.group(3), f"{chain_hash(int(found.group(2)) + 1):x}")

    def stays(self, guest):
        """It runs on in the older process, which can be upgraded afterwards."""
        self.assertEqual(guest.control().call("state")["state"], "running", guest.story())
        newer, _ = upgrade(self, guest, self.link(), epoch=3)
        self.goes_on(newer)

    def test_again_and_again(self):
        guest = self.chain()
        first, stops = guest, []
        program = another_program(self, guest.folder)
        for number in range(4):
            guest, status = upgrade(self, guest, self.link(), program if number % 2 == 0 else None)
            self.assertEqual(status["handover"], "Released")
            self.assertEqual(guest.control().call("state")["state"], "running")
            self.goes_on(guest)
            stops.append(status["downtime_ns"] / 1e6)
        console = guest.console()  # the first process's socket
        self.assertIn(b"micro: chain", harness.read_until(console, b"hash="))
        guest.control().ask("quit")
        self.assertEqual(guest.wait_exit(), 0, guest.story())
        self.assertFalse(os.path.exists(first.path("console.sock")), "the last process removes its sockets")
        print("stops: " + " ".join(f"{stop:.1f}" for stop in stops) + " ms")

    def test_disks_with_leases_and_both_formats(self):
        raw, qcow2 = self.disk(4), self.disk(1)
        os.remove(qcow2)
        subprocess.run([disk_jobs_test.program("kumoi-img"), "create", qcow2, "4M"], check=True)
        self.addCleanup(lambda: os.path.exists(raw + ".lease") and os.remove(raw + ".lease"))
        for disk in ({"path": raw, "lock": {"lease": raw + ".lease", "epoch": 1, "owner": "host0"}},
                     {"path": qcow2, "format": "qcow2"}):
            guest = harness.Guest(self, harness.micro("blk"), "rounds=10", disks=[{"id": "root", **disk}])
            guest.expect("micro: blk round=1\n", 60)
            for epoch in (1, 2, 3):
                if "lock" in disk:
                    guest.config["disks"][0]["lock"]["epoch"] = epoch
                guest, _ = upgrade(self, guest, self.link(), epoch=epoch)
            line = guest.expect(r"micro: blk (ok|FAIL)[^\n]*", 120)
            self.assertEqual(line.group(1), "ok", guest.story())
            self.assertEqual(guest.wait_exit(), 0, guest.story())
        checked = subprocess.run([disk_jobs_test.program("kumoi-img"), "check", qcow2], capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    def test_a_paused_guest_stays_paused(self):
        guest = self.chain()
        guest.control().call("pause")
        guest, _ = upgrade(self, guest, self.link())
        self.assertEqual(guest.control().call("state")["state"], "paused")
        guest.control().call("resume")
        self.goes_on(guest)

    def test_a_restored_guest(self):
        guest = self.chain()
        path = guest.path("state")
        guest.control().save(path, after="quit")
        self.assertEqual(guest.wait_exit(), 0, guest.story())
        guest.start("--restore", path, "--restore-memory", "all")
        guest, _ = upgrade(self, guest, self.link())
        self.goes_on(guest)

    def test_what_does_not_fit_is_refused_with_every_reason(self):
        guest = self.chain()
        one = Upgrade(self, guest, vcpus=2, nics=[]).begin(self.link())
        text = one.wait("failed")["error"]["message"]
        self.assertIn("vCPUs", text)
        self.assertEqual(one.newer.wait_exit(), 1)
        self.stays(guest)

    def test_another_size_of_memory_does_not_even_start(self):
        guest = self.chain()
        one = Upgrade(self, guest, memory_mib=96)
        self.assertEqual(one.newer.wait_exit(), 1)
        self.assertIn("MiB", one.newer.story())
        self.stays(guest)

    def test_a_program_that_is_none(self):
        guest = self.chain()
        one = Upgrade(self, guest, "/bin/false")
        self.assertEqual(one.newer.wait_exit(), 1)
        self.stays(guest)

    def test_the_newer_process_dies_before_it_is_told_anything(self):
        guest = self.chain()
        one = Upgrade(self, guest).prepare()
        one.newer.kill()
        self.stays(guest)

    def test_the_newer_process_dies_with_the_offer(self):
        guest = self.chain()
        one = Upgrade(self, guest).prepare()
        link = self.link()
        one.invite(link)
        one.newer.kill()
        one.go(link)
        one.wait("failed")
        self.stays(guest)

    def test_silence_while_the_guest_stands_still(self):
        guest = self.chain()
        link = self.link(delay_s=0.05)
        one = Upgrade(self, guest).begin(link)
        while one.source.ask_status()["handover"] != "Frozen":
            pass
        link.wires[0].hold()
        self.assertIn("silent for 500 ms", one.wait("failed")["error"]["message"])
        one.newer.kill()  # it may wait for a word, with everything ready
        self.stays(guest)

    def test_a_newer_process_that_says_nothing(self):
        guest = self.chain()
        link = self.link()
        one = Upgrade(self, guest).prepare()
        one.invite(link)
        os.kill(one.destination.control.call("hello")["pid"], signal.SIGSTOP)
        one.go(link)
        one.wait("failed")
        self.assertEqual(guest.control().call("state")["state"], "running")
        one.newer.kill()
        self.stays(guest)

    def test_the_newer_process_dies_after_the_commit(self):
        """Its journal says that it never ran the guest: the older process takes it back."""
        guest = self.chain()
        link = self.link(delay_s=0.05)
        one = Upgrade(self, guest).prepare()
        one.epoch = 1
        one.invite(link)
        control = one.source
        one.go(link)
        while control.ask_status()["handover"] != "Committed":
            pass
        one.newer.kill()
        harness.wait_until(lambda: control.ask_status()["phase"] == "undecided", 10, "the older process to notice")
        journal = DeadJournal(one.journals + "/newer")
        self.assertEqual(journal.mark(), "Joined")
        journal.settle("Declined")
        journal.close()
        control.control.call("migrate_verdict", id=one.id, view="declined")
        harness.wait_until(lambda: control.ask_status()["handover"] == "Kept", 10, "the older process to go on")
        self.stays(guest)

    def test_a_display_and_its_viewers_socket(self):
        socket_path = os.path.join(os.path.dirname(self.disk(1)), f"kumoi-it-vnc-{os.getpid()}.sock")
        guest = harness.Guest(self, harness.micro("chain"), "mib=1",
                              display={"vnc": [{"socket": socket_path}]})
        guest.expect("micro: chain round=2 ", 60)
        guest, status = upgrade(self, guest, self.link())
        viewer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(viewer.close)
        viewer.settimeout(20 * harness.SLOW)
        viewer.connect(socket_path)
        self.assertTrue(viewer.recv(12).startswith(b"RFB 003.008"))
        self.goes_on(guest)
        guest.control().ask("quit")
        guest.wait_exit()
        self.assertFalse(os.path.exists(socket_path))


class UpgradesWithNetwork(harness.Test):
    @classmethod
    def setUpClass(cls):
        harness.private_network()
        harness.make_tap("tap0", "10.78.0.1/24")

    def test_no_datagram_is_lost(self):
        """The same TAP queue goes on: what waits in it while the guest stands still is answered afterwards."""
        for vhost in ("off", "auto"):
            guest = harness.Guest(self, harness.micro("net"), "ip=10.78.0.2",
                                  nics=[{"id": "net0", "tap": "tap0", "mac": "52:54:00:4b:00:02", "vhost": vhost}])
            guest.expect(r"micro: net up mac=52:54:0:4b:0:2")
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.addCleanup(client.close)
            client.settimeout(10 * harness.SLOW)
            client.connect(("10.78.0.2", 7))
            client.send(b"first")
            self.assertEqual(client.recv(100), b"first")
            sent = 0
            for _ in range(3):
                one = Upgrade(self, guest).prepare()
                one.begin(Link(self, streams=0))
                begun = time.monotonic()
                while "completed" not in one.source.phases and time.monotonic() < begun + 20:
                    client.send(str(sent).encode())
                    sent += 1
                    one.source.watch(0.002)
                guest.wait_exit()
                guest = one.newer
            got = {int(client.recv(100)) for _ in range(sent)}
            self.assertEqual(got, set(range(sent)))
            client.send(b"quit")
            guest.expect(r"micro: net ok in=\d+ out=\d+")
            self.assertEqual(guest.wait_exit(), 0, guest.story())


if __name__ == "__main__":
    harness.main()
