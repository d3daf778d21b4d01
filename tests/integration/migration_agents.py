"""The part of the daemons' agents (migration/handover/agent.h) after something went wrong between two kumoi-vmm: the journal of
a dead process is settled, a living one is told, a broken connection is made anew, until it is decided whose the guest is.

    agents = Agents(test, pair, link)
    agents.settle()                 # agents.told: what was said to whom
"""
import fcntl
import os
import struct
import time

from migration_harness import ENDS, Link

MARKS = {1: "Offered", 2: "Aborted", 3: "Committed", 4: "Released", 5: "Joined", 6: "Owner", 7: "Declined"}
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

    def name_of(self, record):
        return MARKS[self.records[record][36]]

    def mark(self):
        return self.name_of(-1) if self.records else None

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


class Agents:
    def __init__(self, test, pair, link):
        self.test, self.pair, self.link = test, pair, link
        self.told = []

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
        if near["phase"] in ("completed", "failed", "cancelled", "superseded", "post_copy"):
            return True  # after post-copy began it had the guest, whatever its disk has kept of that
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

    def reconnect(self, **how):
        self.told.append(("both", "reconnect"))
        link = Link(self.test, "tcp", 2, **how)
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
                self.verdict(self.pair.source, view="owner")
                return True
            if journal.mark() != "Declined":
                journal.settle("Declined")
            self.verdict(self.pair.source, view="declined")
        finally:
            journal.close()
        return False

    def settle(self, seconds=60):
        deadline = time.monotonic() + seconds
        while not self.act():
            if time.monotonic() > deadline:
                raise AssertionError(f"not decided after {seconds} s\n{self.pair.story()}")
            time.sleep(0.02)
