#!/usr/bin/python3
"""Live migrations of real guests in which something goes wrong, one thing a run, and what became of each.

    migration_faults.py [--runs N] [--seed S] [--report FILE]

Each run: a guest that checks its memory, clocks and its own progress; a migration with limits and streams of chance; one
fault at a moment of chance: a process killed or stopped for a while, connections cut at a byte, gone silent, slow. Then the
agents' part is played (migration/handover/agent.h): the journal of a dead process is settled, a living one is told, a broken
connection is made anew. In the end exactly one process runs the guest, unless the process that owned it was killed, and the
guest's own verdict is good: nothing ran twice, nothing is lost. The seed makes the choices, not the timing.
"""
import argparse
import collections
import fcntl
import json
import os
import random
import re
import signal
import struct
import sys
import time

import harness
from migration_harness import ENDS, Link, Pair

MARKS = {1: "Offered", 2: "Aborted", 3: "Committed", 4: "Released", 5: "Joined", 6: "Owner", 7: "Declined"}
FAULTS = ("none", "kill source", "kill destination", "stop source", "stop destination", "cut", "cut all", "silence", "slow",
          "cancel")
RECORD = 512


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


class DeadJournal:
    """The journal of a process that is proved dead by its lock (migration/handover/journal.h)."""

    def __init__(self, path):
        self.file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self.file)
            raise
        self.records = []
        while True:
            record = os.pread(self.file, RECORD, len(self.records) * RECORD)
            if len(record) < RECORD or record[:8] != b"kumoiHO1" or \
                    struct.unpack("<I", record[508:])[0] != crc32c(record[:508]):
                break
            self.records.append(record)

    def mark(self):
        return MARKS[self.records[-1][36]] if self.records else None

    def settle(self, mark):
        record = bytearray(self.records[-1])
        struct.pack_into("<I", record, 32, len(self.records))
        record[36] = next(number for number, name in MARKS.items() if name == mark)
        struct.pack_into("<I", record, 508, crc32c(bytes(record[:508])))
        os.pwrite(self.file, record, len(self.records) * RECORD)
        os.fdatasync(self.file)
        self.records.append(bytes(record))

    def close(self):
        os.close(self.file)


class Run:
    def __init__(self, test, seed):
        self.test, self.seed = test, seed
        self.chance = random.Random(seed)
        self.killed = None
        self.told = []

    def begin(self):
        chance = self.chance
        self.fault = chance.choice(FAULTS)
        self.rounds = chance.choice((30, 60, 120))
        self.guest = harness.Guest(self.test, harness.micro("chain"), f"mib={chance.choice((1, 2, 4))} rounds={self.rounds}",
                                   memory_mib=32, vcpus=1)
        self.guest.expect("micro: chain round=1 ", 60)
        self.post_copy = chance.random() < 0.2
        options = {"downtime_ms": chance.choice((1, 20, 300)), "post_copy": "automatic" if self.post_copy else "never",
                   "compress": chance.choice(("none", "zstd")), "throttle_max_percent": chance.choice((0, 60, 99))}
        wire = {}
        if self.fault == "cut":
            wire["cut_at"] = (chance.randrange(2), int(10 ** chance.uniform(1, 6.7)))
        elif self.fault == "slow":
            wire["bytes_per_s"] = int(10 ** chance.uniform(5.5, 7.5))
        link = Link(self.test, chance.choice(("tcp", "unix")), chance.choice((1, 2, 4)), wired=True, **wire)
        self.link = link
        self.pair = Pair(self.test, self.guest)
        self.pair.begin(link, **options)

    def strike(self):
        delay = self.chance.choice((0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4)) * self.chance.uniform(0.5, 1.5)
        time.sleep(delay)
        pair = self.pair
        if self.fault.startswith("kill"):
            self.killed = pair.source if "source" in self.fault else pair.destination
            self.killed.guest.process.send_signal(signal.SIGKILL)
            self.killed.guest.process.wait()
        elif self.fault.startswith("stop"):
            side = pair.source if "source" in self.fault else pair.destination
            machine = side.control.call("hello")["pid"] if self.alive(side) else None
            if machine:
                self.freeze(machine, self.chance.choice((0.3, 1.0, 2.6)))
        elif self.fault == "cut all":
            self.link.cut()
        elif self.fault == "silence":
            for wire in self.link.wires:
                wire.hold()
            time.sleep(self.chance.choice((0.5, 2.5)))
            for wire in self.link.wires:
                wire.go_on()
        elif self.fault == "cancel" and self.alive(pair.source):
            try:
                pair.source.control.ask("migrate_cancel")
            except (EOFError, OSError):
                pass

    @staticmethod
    def freeze(pid, seconds):
        try:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass

    @staticmethod
    def alive(side):
        return side.guest.process.poll() is None

    def status(self, side):
        """None: dead."""
        try:
            return side.ask_status() if self.alive(side) else None
        except (EOFError, OSError, AssertionError):  # it is ending
            side.guest.process.wait()
            return None

    def verdict(self, side, **params):
        self.told.append((side is self.pair.source and "source" or "destination", params["view"]))
        try:
            side.control.ask("migrate_verdict", id=self.pair.id, **params)
        except (EOFError, OSError):
            pass  # it has gone: the next turn sees that

    def act(self):
        """One turn of both agents. True: it is decided."""
        source, destination = self.pair.sides()
        near, far = self.status(source), self.status(destination)
        if near and far:
            if near["phase"] in ENDS[:3] + ("superseded",) and far["phase"] in ("completed", "failed"):
                return True
            if near["handover"] == "Kept":
                self.verdict(destination, view="aborted")
            elif "undecided" in (near["phase"], far["phase"]) or (near["phase"] == "post_copy" and self.broken()):
                self.reconnect()
            return False
        if near is None and far is None:
            return True
        if near is None:
            return self.source_died(far)
        if near["phase"] in ("completed", "failed", "cancelled", "superseded"):
            return True
        return self.destination_died(near)

    @staticmethod
    def dead_journal(side):
        """None: the machine behind the launcher that we killed still holds it."""
        try:
            return DeadJournal(side.journal)
        except BlockingIOError:
            return None

    def broken(self):
        return any(wire.broken.is_set() for wire in self.link.wires)

    def reconnect(self):
        self.told.append(("both", "reconnect"))
        link = Link(self.test, "tcp", 2)
        for side, ends in ((self.pair.destination, link.destination), (self.pair.source, link.source)):
            try:
                side.call("migrate_connect", ends, id=self.pair.id)
            except (AssertionError, EOFError, OSError) as error:
                self.told.append(("refused", str(error)[:200]))
        link.close_ends()
        self.link = link

    def source_died(self, far):
        if far["phase"] in ("completed", "failed") or far["phase"] == "post_copy":
            return True
        journal = self.dead_journal(self.pair.source)
        if journal is None:
            return False
        try:
            mark = journal.mark()
            ready = far["handover"] in ("Ready", "Parked")
            if mark == "Offered" and ready:
                journal.settle("Committed")
                mark = "Committed"
            elif mark == "Offered" and far["handover"] in ("Loading", "Declined"):
                journal.settle("Aborted")
                mark = "Aborted"
            if mark == "Committed":
                self.verdict(self.pair.destination, view="committed")
            elif mark == "Aborted":
                self.verdict(self.pair.destination, view="aborted")
        finally:
            journal.close()
        return False

    def destination_died(self, near):
        journal = self.dead_journal(self.pair.destination)
        if journal is None:
            return False
        try:
            if journal.mark() == "Owner":
                self.owner_died = True
                self.verdict(self.pair.source, view="owner")
                return True
            if journal.mark() != "Declined":
                journal.settle("Declined")
            self.verdict(self.pair.source, view="declined")
        finally:
            journal.close()
        return False

    def settle(self):
        deadline = time.monotonic() + 60
        while not self.act():
            if time.monotonic() > deadline:
                raise AssertionError(f"not decided after 60 s\n{self.pair.story()}")
            time.sleep(0.02)

    @staticmethod
    def rounds_of(guest):
        return [int(number) for number in re.findall(r"micro: chain round=(\d+) hash=\w+ ticks=\d+\n", guest.output())]

    def judge(self):
        """Where the guest ended: source, destination or gone with the process that owned it."""
        source_side = self.pair.source
        source, destination = (side.guest for side in self.pair.sides())
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            texts = [guest.output() for guest in (source, destination)]
            verdicts = [re.search(r"micro: chain (ok|FAIL)[^\n]*", text) for text in texts]
            gone = not self.alive(source_side) or source_side.phases[-1] == "completed"
            owner_dead = self.killed is not None and gone and not self.alive(self.pair.destination)
            if any(verdicts) or owner_dead:
                break
            time.sleep(0.02)
        if all(verdicts):
            raise AssertionError("DOUBLE RUN: both ended the guest")
        twice = set(self.rounds_of(source)) & set(self.rounds_of(destination))
        if twice:
            raise AssertionError(f"DOUBLE RUN: rounds {sorted(twice)} were run by both")
        for where, found in zip(("source", "destination"), verdicts):
            if found:
                if found.group(1) != "ok":
                    raise AssertionError(f"DAMAGED: {found.group(0)}")
                return where
        if self.killed is None:
            raise AssertionError("LOST: nobody runs the guest, and nobody was killed")
        if self.killed is self.pair.source and self.ready_before_death():
            raise AssertionError("LOST: the destination had everything")
        if self.killed is self.pair.destination and not gone:
            raise AssertionError("LOST: the destination died and the source does not go on")
        return "gone with its owner"

    def ready_before_death(self):
        status = self.pair.destination.status
        return status.get("handover") in ("Ready", "Parked", "Owner") and not self.post_copy

    def execute(self):
        self.begin()
        self.strike()
        self.settle()
        return self.judge()


def run_one(seed):
    test = harness.Test()
    run = Run(test, seed)
    begun = time.monotonic()
    result = {"seed": seed}
    try:
        result["end"] = run.execute()
    except (AssertionError, EOFError, OSError) as error:
        result["wrong"] = f"{type(error).__name__}: {error}"
    finally:
        if hasattr(run, "pair"):
            result.update(fault=run.fault, phases=run.pair.source.phases, told=run.told[:20],
                          downtime_ms=run.pair.source.status.get("downtime_ms"))
        test.doCleanups()
    result["seconds"] = round(time.monotonic() - begun, 2)
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report")
    arguments = parser.parse_args()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("SKIP: /dev/kvm cannot be used")
        return 77
    ends, wrong = collections.Counter(), 0
    report = open(arguments.report, "a", buffering=1) if arguments.report else None
    for seed in range(arguments.seed, arguments.seed + arguments.runs):
        result = run_one(seed)
        ends[(result.get("fault", "?"), result.get("end", "WRONG"))] += 1
        if "wrong" in result:
            wrong += 1
            print(json.dumps(result), flush=True)
        if report:
            report.write(json.dumps(result) + "\n")
    for (fault, end), count in sorted(ends.items()):
        print(f"{count:5} {fault}: {end}")
    print(f"{arguments.runs} runs, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
