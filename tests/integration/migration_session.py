#!/usr/bin/python3
"""One Linux guest in which everything is at work at once (tests/guests/linux/workload), moved back and forth, with and without
faults: a TCP session with a CRC on each block, a writer and verifier of a shared disk under a lease, one of memory, a reader of
all clocks.

    migration_session.py [--moves N] [--faults SHARE] [--seed S] [--report FILE]

N migrations; in SHARE of them something goes wrong before the guest is given away: cancelled, the destination killed, a
connection cut at a byte, all of them cut, silent, slow. Then the guest must go on where it is, and the next migration takes it. Some
of the others are finished by post-copy, and half of those lose their connections on the way.
After each one all four must have gone on, with no mistake; no line of the guest's count may come from two processes; in the end
every block of the disk must be whole. A line of JSON for each migration goes to FILE, figures to the output.
"""
import argparse
import collections
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import zlib

import harness
from linux_test import BOOT_SECONDS, ROOT
from migration_agents import Agents
from migration_harness import ENDS, Link, Pair

ADDRESS = "10.78.0.10"
MAC = "52:54:00:4b:00:02"
DISK_MIB = 4
BLOCK = 4096
LINE = re.compile(r"\nwork (\d+) memory=(\d+) disk=(\d+) clock=(\d+) tcp=(\d+) skip_us=(\d+)\r?\n")
FAULTS = ("cancel", "kill destination", "cut", "cut all", "silence", "slow")
MASK = (1 << 64) - 1
POST_COPY = 0.1  # share of the migrations


class Session(threading.Thread):
    """Sends numbered blocks of chance and compares the answers, until it is told to stop."""
    HEADER = struct.Struct("<4sIQII")

    def __init__(self):
        super().__init__(daemon=True)
        self.blocks, self.bytes, self.error, self.stopping, self.gap = 0, 0, None, False, 0.0
        self.socket = harness.wait_until(self.connect, 60, "the guest to listen")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @staticmethod
    def connect():
        try:
            return socket.create_connection((ADDRESS, 7), timeout=60 * harness.SLOW)
        except ConnectionRefusedError:
            return None

    def receive(self, size):
        back = b""
        while len(back) < size:
            piece = self.socket.recv(size - len(back))
            if not piece:
                raise AssertionError("the guest closed the session")
            back += piece
        return back

    def exchange(self):
        seed = hashlib.sha256(str(self.blocks).encode()).digest()
        block = seed * (1 + seed[0] * seed[1] % 256)
        self.socket.sendall(self.HEADER.pack(b"KWRK", len(block), self.blocks, zlib.crc32(block), 0) + block)
        magic, size, number, crc, _ = self.HEADER.unpack(self.receive(self.HEADER.size))
        if (magic, size, number) != (b"KWRK", len(block), self.blocks):
            raise AssertionError(f"block {self.blocks} was answered as {magic} {number} of {size} bytes")
        answer = self.receive(size)
        if zlib.crc32(answer) != crc or bytes(byte ^ 0x5a for byte in answer) != block:
            raise AssertionError(f"the answer to block {self.blocks} is damaged")
        self.blocks += 1
        self.bytes += 2 * size

    def run(self):
        try:
            last = time.monotonic()
            while not self.stopping:
                self.exchange()
                now = time.monotonic()
                self.gap = max(self.gap, now - last)
                last = now
        except (AssertionError, OSError) as error:
            self.error = error

    def take_gap_ms(self):
        gap, self.gap = self.gap, 0.0
        return gap * 1e3


def compile_workload(folder):
    path = os.path.join(folder, "workload")
    source = os.path.join(harness.SOURCE, "tests/guests/linux/workload/workload.c")
    harness.run("gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-static", "-Wall", "-Wextra", "-Werror", "-o", path, source)
    return path


def put_into_image(image, path):
    """Into /root of an ext2 image."""
    debugfs = shutil.which("debugfs", path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")
    if debugfs is None:
        harness.skip("no debugfs: install e2fsprogs")
    done = subprocess.run([debugfs, "-w", "-R", f"write {path} root/workload", image], capture_output=True, text=True)
    listed = subprocess.run([debugfs, "-R", "stat root/workload", image], capture_output=True, text=True)
    if "Type: regular" not in listed.stdout:
        raise AssertionError(f"debugfs: {done.stderr}")


def mix(value):
    value ^= value >> 33
    value = value * 0xff51afd7ed558ccd & MASK
    value ^= value >> 33
    value = value * 0xc4ceb9fe1a85ec53 & MASK
    return value ^ value >> 33


def check_disk(path):
    """Every block is whole and says its own number. How many were written, and how often in all."""
    written = times = 0
    with open(path, "rb") as file:
        content = file.read()
    for number in range(len(content) // BLOCK):
        words = struct.unpack_from("<512Q", content, number * BLOCK)
        if not any(words):
            continue
        wanted = [number, words[1]] + [mix((number << 40) & MASK ^ words[1] << 9 ^ i) for i in range(2, 512)]
        if list(words) != wanted:
            raise AssertionError(f"disk block {number} is damaged: it says {words[0]}.{words[1]}")
        written, times = written + 1, times + words[1]
    return written, times


class Moves:
    def __init__(self, test, folder, chance, share):
        self.test, self.folder, self.chance, self.share = test, folder, chance, share
        self.tap, self.epoch, self.host = 0, 1, 0
        self.seen = {}  # guest's line: number of the process that printed it
        self.last = (0,) * 6
        self.report = []

    def path(self, name):
        return os.path.join(self.folder, name)

    def nics(self, tap):
        return [{"id": "net0", "tap": f"tap{tap}", "mac": MAC, "mtu": 1500}]

    def disks(self):
        return [{"id": name, "path": self.path(name), "lock": {"lease": self.path(name + ".lease"), "epoch": self.epoch,
                                                               "owner": f"host{self.host}"}} for name in ("root", "data")]

    def boot(self, memory_mib, set_mib):
        shutil.copyfile(harness.root_image("kumoi-tiny.raw"), self.path("root"))
        put_into_image(self.path("root"), compile_workload(self.folder))
        with open(self.path("data"), "wb") as file:
            file.truncate(DISK_MIB << 20)
        self.guest = harness.Guest(self.test, harness.linux("vmlinux"), ROOT, memory_mib=memory_mib, disks=self.disks(),
                                   nics=self.nics(self.tap))
        self.guest.expect("kumoi-tiny: ready", BOOT_SECONDS)
        console = self.guest.console()
        console.sendall(f"ifconfig eth0 {ADDRESS} up; /root/workload {set_mib} /dev/vdb\n".encode())
        self.guest.expect(LINE.pattern, 60)
        console.close()
        self.session = Session()
        self.session.start()

    def read(self):
        """What the guest said since; the last line. No line may come from two processes, none twice, none with less done."""
        self.process = id(self.guest)
        output = self.guest.output()
        failed = re.search(r"work FAIL[^\r\n]*", output)
        if failed or self.session.error:
            raise AssertionError(f"{failed and failed.group(0)} {self.session.error!r}\n{self.guest.story()}")
        for found in LINE.finditer(output):
            line = tuple(int(word) for word in found.groups())
            if self.seen.setdefault(line[0], self.process) != self.process:
                raise AssertionError(f"DOUBLE RUN: line {line[0]} came from two processes\n{self.guest.story()}")
            if line[0] <= self.last[0]:
                continue
            if line[0] != self.last[0] + 1 and self.last[0] and not self.torn(output, line[0]):
                raise AssertionError(f"lines between {self.last[0]} and {line[0]} are missing\n{self.guest.story()}")
            if any(now < before for now, before in zip(line[1:5], self.last[1:5])):
                raise AssertionError(f"the guest went back from {self.last} to {line}\n{self.guest.story()}")
            self.skip_us = max(self.skip_us, line[5])
            self.last = line
        return self.last

    def torn(self, output, number):
        """One line may have been printed half by each process."""
        return number == self.last[0] + 2

    def all_went_on(self):
        """Waits until each of the four has done more than before this was called."""
        before = self.read()
        try:
            harness.wait_until(lambda: all(now > then for now, then in zip(self.read()[1:5], before[1:5])), 60,
                               "memory, disk, clock and session to go on")
        except AssertionError as error:
            raise AssertionError(f"{error}: {before} to {self.last}, {self.session.blocks} blocks\n{self.guest.story()}") from None

    def plan(self):
        chance = self.chance
        fault = chance.choice(FAULTS) if chance.random() < self.share else "none"
        wire = {}
        at = int(10 ** chance.uniform(2, 7.3))
        if fault == "cut":
            wire["cut_at"] = (chance.randrange(2), at)
        elif fault == "slow":
            wire["bytes_per_s"] = int(10 ** chance.uniform(6.5, 7.5))
        link = Link(self.test, chance.choice(("tcp", "unix")), chance.choice((1, 2, 4)), wired=fault != "none", **wire)
        options = {"downtime_ms": chance.choice((20, 100, 300)), "compress": chance.choice(("none", "none", "zstd"))}
        return fault, at, link, options

    def plan_post_copy(self):
        """Slow enough that it is asked for in time."""
        link = Link(self.test, "tcp", self.chance.choice((2, 4)), wired=True)
        return "post-copy", 0, link, {"post_copy": "allowed", "bandwidth_bytes_s": 16 << 20, "downtime_ms": 20}

    def post_copy(self, pair, link):
        pair.wait_phase(("copying", *ENDS))
        if "error" in pair.source.control.ask("migrate_force", how="post_copy"):
            return "post-copy, too late"
        pair.wait_phase(("post_copy", *ENDS))
        if self.chance.random() < 0.5:
            return "post-copy"
        time.sleep(self.chance.uniform(0, 0.5))
        link.cut()
        return "post-copy, cut"

    def strike(self, fault, at, pair, link):
        """Returns what was done in the end: a moment may have passed."""
        if fault in ("none", "cut", "slow"):
            return fault
        if fault == "post-copy":
            return self.post_copy(pair, link)
        if fault == "cancel":
            time.sleep(self.chance.uniform(0, 0.2))
            return fault if "error" not in pair.source.control.ask("migrate_cancel") else "cancel, too late"
        deadline = time.monotonic() + 10
        while sum(wire.passed[0] for wire in link.wires) < at and not link.wires[0].broken.is_set():
            pair.source.watch(0.002)
            if pair.source.phases[-1:] == ["completed"] or time.monotonic() > deadline:
                break
        if fault == "cut all":
            link.cut()
        elif fault == "silence":
            for wire in link.wires:
                wire.hold()
            time.sleep(self.chance.choice((0.2, 1.0, 2.6)))
            for wire in link.wires:
                wire.go_on()
        else:
            return self.kill_destination(pair, link)
        return fault

    @staticmethod
    def kill_destination(pair, link):
        """Never one that owns the guest, for then it would be right that the guest is gone: what could make it so is held
        back first."""
        for wire in link.wires:
            wire.hold()
        time.sleep(0.05)  # what had passed the wires has arrived
        status = pair.destination.ask_status() if pair.destination.guest.process.poll() is None else {}
        owns = status.get("handover") in (None, "Owner")
        if not owns:
            pair.destination.guest.process.send_signal(signal.SIGKILL)
            pair.destination.guest.process.wait()
        for wire in link.wires:
            wire.go_on()
        return f"kill destination, {'too late' if owns else status['handover']}"

    def move(self, number):
        fault, at, link, options = self.plan_post_copy() if self.chance.random() < POST_COPY else self.plan()
        begun = time.monotonic()
        self.skip_us = 0
        self.session.take_gap_ms()
        moved = dict(self.guest.config, disks=[dict(disk, lock=dict(disk["lock"], epoch=self.epoch, owner=f"host{self.host + 1}"))
                                               for disk in self.guest.config["disks"]])
        keep, self.guest.config = self.guest.config, moved
        pair = Pair(self.test, self.guest, nics=self.nics(1 - self.tap))
        self.guest.config = keep
        pair.begin(link, epoch=self.epoch, **options)
        done = self.strike(fault, at, pair, link)
        agents = Agents(self.test, pair, link)
        agents.settle(120)
        end = self.follow(pair)
        self.all_went_on()
        status = pair.source.status
        self.report.append({"move": number, "fault": done, "end": end, "phases": pair.source.phases, "told": agents.told[:20],
                            "downtime_ms": status.get("downtime_ns", 0) / 1e6, "total_ms": status.get("elapsed_ns", 0) / 1e6,
                            "rounds": status.get("round"), "sent": status.get("memory", {}).get("sent"), "epoch": self.epoch,
                            "gap_ms": self.session.take_gap_ms(), "skip_ms": self.skip_us / 1e3, "line": self.last[0],
                            "seconds": time.monotonic() - begun})
        link.close()
        agents.link.close()

    def follow(self, pair):
        """To where the guest is; the other process goes."""
        source, destination = pair.sides()
        self.read()  # the source's last words
        if destination.guest.process.poll() is None and destination.status.get("phase") == "completed":
            pair.quit_source()
            owner, empty, end = destination, source, "moved"
            self.tap, self.host = 1 - self.tap, self.host + 1
        else:
            if source.guest.process.poll() is not None:
                raise AssertionError(f"LOST: nobody has the guest\n{pair.story()}")
            owner, empty, end = source, destination, "stayed"
        self.epoch = owner.status["epoch"]
        self.guest = owner.guest
        for side in pair.sides():
            side.control.close()
        empty.guest.kill()
        shutil.rmtree(empty.guest.folder, True)
        return end

    def finish(self):
        self.session.stopping = True
        self.session.join(60)
        self.read()
        self.guest.control().call("pause")
        return check_disk(self.path("data"))


def spread(values):
    return (f"median {harness.percentile(values, 0.5):.1f}, p95 {harness.percentile(values, 0.95):.1f}, p99 {harness.percentile(values, 0.99):.1f}, "
            f"max {max(values):.1f}") if values else "none"


def figures(moves, disk):
    report = moves.report
    ends = collections.Counter((line["fault"], line["end"]) for line in report)
    for (fault, end), count in sorted(ends.items()):
        print(f"{count:5} {fault}: {end}")
    plain = [line for line in report if line["fault"] == "none"]
    print(f"downtime ms of those that moved: {spread([line['downtime_ms'] for line in report if line['end'] == 'moved'])}")
    print(f"longest gap of the session ms, without fault: {spread([line['gap_ms'] for line in plain])}")
    print(f"the same with faults: {spread([line['gap_ms'] for line in report if line['fault'] != 'none'])}")
    print(f"largest step of the guest's clock ms: {spread([line['skip_ms'] for line in plain])}")
    print(f"checked by the guest: {moves.last[1]} pages of memory, {moves.last[2]} writes to disk, {moves.last[3]} looks at clocks, "
          f"{moves.last[4]} blocks ({moves.session.bytes} bytes) of one TCP session; disk: {disk[0]} blocks, {disk[1]} writes")


def network():
    if shutil.which("ip") is None:
        harness.skip("no ip: install iproute2")
    harness.private_network()
    harness.run("ip", "link", "add", "br0", "type", "bridge")
    harness.run("ip", "address", "add", "10.78.0.1/24", "dev", "br0")
    harness.run("ip", "link", "set", "br0", "up")
    for tap in ("tap0", "tap1"):
        harness.make_tap(tap)
        harness.run("ip", "link", "set", tap, "master", "br0")


def run(arguments, folder, report):
    test, wrong, disk = harness.Test(), 0, (0, 0)
    moves = Moves(test, folder, random.Random(arguments.seed), arguments.faults)
    try:
        moves.boot(arguments.memory_mib, arguments.set_mib)
        for number in range(arguments.moves):
            moves.move(number)
            if report:
                report.write(json.dumps(moves.report[-1]) + "\n")
        disk = moves.finish()
    except (AssertionError, EOFError, OSError) as error:
        wrong = 1
        print(f"WRONG in migration {len(moves.report)}: {type(error).__name__}: {error}", flush=True)
    finally:
        if moves.report:
            figures(moves, disk)
        test.doCleanups()
    moved = sum(1 for line in moves.report if line["end"] == "moved")
    print(f"{len(moves.report)} migrations, {moved} moved the guest, {len(moves.report) - moved} left it; {wrong} wrong")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--moves", type=int, default=6)
    parser.add_argument("--faults", type=float, default=0.4, help="share of the migrations in which something goes wrong")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memory-mib", type=int, default=64)
    parser.add_argument("--set-mib", type=int, default=8, help="memory that is written and checked")
    parser.add_argument("--report")
    arguments = parser.parse_args()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("SKIP: /dev/kvm cannot be used")
        return 77
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ctest's timeout: clean up first
    folder = tempfile.mkdtemp(prefix="kumoi-session-")
    report = open(arguments.report, "a", buffering=1) if arguments.report else None
    try:
        network()
        return run(arguments, folder, report)
    except unittest.SkipTest as reason:
        print(f"SKIP: {reason}")
        return 77
    finally:
        shutil.rmtree(folder, True)


if __name__ == "__main__":
    sys.exit(main())
