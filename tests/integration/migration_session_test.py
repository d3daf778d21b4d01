"""A Linux guest that moves back and forth while a TCP session goes through it, its root disk is written and its clock is read: the
session never breaks and never changes a byte, the disk is the same one, handed over, and time never runs backwards."""
import hashlib
import os
import re
import shutil
import socket
import threading
import time

import harness
from linux_test import BOOT_SECONDS, ROOT, Linux
from migration_harness import Link, Pair

MOVES = int(os.environ.get("KUMOI_MOVES", "4"))
ADDRESS = "10.78.0.10"
MAC = "52:54:00:4b:00:02"


class Session(threading.Thread):
    """Sends numbered blocks to the guest's echo service and compares what comes back, until it is told to stop."""

    def __init__(self):
        super().__init__(daemon=True)
        self.blocks, self.error, self.stopping, self.gap = 0, None, False, 0.0
        self.socket = socket.create_connection((ADDRESS, 7), timeout=60 * harness.SLOW)

    def run(self):
        try:
            last = time.monotonic()
            while not self.stopping:
                seed = hashlib.sha256(str(self.blocks).encode()).digest()
                block = seed * 32
                self.socket.sendall(block)
                back = b""
                while len(back) < len(block):
                    piece = self.socket.recv(len(block) - len(back))
                    if not piece:
                        raise AssertionError("the guest closed the session")
                    back += piece
                if back != block:
                    raise AssertionError(f"block {self.blocks} came back as something else")
                self.blocks += 1
                self.gap = max(self.gap, time.monotonic() - last)
                last = time.monotonic()
        except (AssertionError, OSError) as error:
            self.error = error


class MovingLinux(Linux):
    @classmethod
    def setUpClass(cls):
        if shutil.which("ip") is None:
            harness.skip("no ip: install iproute2")
        harness.private_network()
        harness.run("ip", "link", "add", "br0", "type", "bridge")
        harness.run("ip", "address", "add", "10.78.0.1/24", "dev", "br0")
        harness.run("ip", "link", "set", "br0", "up")
        for tap in ("tap0", "tap1"):
            harness.make_tap(tap)
            harness.run("ip", "link", "set", tap, "master", "br0")

    def nics(self, tap):
        return [{"id": "net0", "tap": tap, "mac": MAC, "mtu": 1500}]

    def start_work(self, guest):
        console = guest.console()
        console.sendall(f"ifconfig eth0 {ADDRESS} up; nc -ll -p 7 -e cat &\n".encode())
        console.sendall(b"(n=0; while :; do n=$((n+1)); echo $n > /root/count; sync; "
                        b"echo work $n $(cut -d' ' -f1 /proc/uptime); sleep 1; done) & echo started\n")
        guest.expect("work 1 ", 60)
        console.close()

    def move(self, guest, number):
        pair = Pair(self, guest, nics=self.nics(f"tap{(number + 1) % 2}"))
        pair.begin(Link(self, "tcp", 2), downtime_ms=100)
        pair.wait("completed", 120)
        pair.quit_source()
        return pair

    def work_of(self, guest):
        return [(int(n), float(uptime)) for n, uptime in re.findall(r"\nwork (\d+) ([0-9.]+)\r?\n", guest.output())]

    def test_a_session_goes_through_it(self):
        root = self.root()
        guest = harness.Guest(self, harness.linux("vmlinux"), ROOT, disks=[root], nics=self.nics("tap0"))
        guest.expect("kumoi-tiny: ready", BOOT_SECONDS)
        self.start_work(guest)
        session = Session()
        session.start()
        work, downtimes = self.work_of(guest), []
        for number in range(MOVES):
            pair = self.move(guest, number)
            downtimes.append(pair.source_status["downtime_ns"] / 1e6)
            guest = pair.destination.guest
            before = session.blocks
            harness.wait_until(lambda: session.blocks > before + 3 or session.error, 60, "the session to go on")
            self.assertIsNone(session.error, guest.story())
            guest.expect(r"\nwork \d+ [0-9.]+\r?\n", 60)
            work += self.work_of(guest)
        session.stopping = True
        session.join(60)
        self.assertIsNone(session.error)
        for (count, uptime), (next_count, next_uptime) in zip(work, work[1:]):
            self.assertGreaterEqual(next_count, count, work)
            self.assertGreaterEqual(next_uptime, uptime, work)
        self.assertEqual(len({count for count, _ in work}), len(work), "a count was written twice: it ran twice")
        print(f"{MOVES} moves, {session.blocks} blocks, longest gap {session.gap * 1000:.0f} ms, downtimes "
              + " ".join(f"{downtime:.0f}" for downtime in downtimes) + " ms")
        guest.kill()


if __name__ == "__main__":
    harness.main()
