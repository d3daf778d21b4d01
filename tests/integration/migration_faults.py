#!/usr/bin/python3
"""Live migrations of real guests in which something goes wrong, one thing a run, and what became of each.

    migration_faults.py [--runs N] [--seed S] [--fault NAME] [--report FILE] [--jobs N]

Each run: a guest that checks its memory, clocks and its own progress; a migration with limits, streams and a disk (shared under a
lease, or one that comes along) of chance; one fault of migration_strikes.py: a process killed or stopped, also at a system call
of chance; connections cut at a byte, silent, slow, late, made anew while the old ones still bring something; a journal that
cannot be written, is slow, or loses what it had synced when the power goes; disks and journals on full file systems. Then the
agents' part is played (migration_agents.py). In the end exactly one process runs the guest, unless the process that owned it was
killed, and the guest's own verdict is good: nothing ran twice, nothing is lost. The seed makes the choices, not the timing.

FILE gets a line of JSON for each run: seed, fault and where it struck, phases, what the agents said, and the end.
"""
import argparse
import collections
import json
import multiprocessing
import os
import random
import re
import signal
import sys
import time

import harness
import migration_strikes
from migration_agents import Agents
from migration_harness import Link, Pair

DISK = 2 << 20
HANG_SECONDS = 300


class Run:
    def __init__(self, test, seed, fault=None):
        self.test, self.chance = test, random.Random(seed)
        name = self.chance.choice(migration_strikes.FAULTS)
        self.fault = fault or name
        self.strike = migration_strikes.make(self.fault, self)
        self.agents = None
        self.record_lost = None

    def machine(self):
        chance = self.chance
        kind = "copied" if self.strike.copied else chance.choice(("none", "shared", "copied"))
        self.post_copy = kind != "copied" and chance.random() < 0.3
        disks = []
        if kind != "none":
            path = self.test.disk(0)
            with open(path, "wb") as file:
                file.write(chance.randbytes(DISK))
            disks = [{"id": "data", "path": path}]
        if kind == "shared":
            disks[0]["lock"] = {"lease": path + ".lease", "epoch": 1, "owner": "host0"}
            self.test.addCleanup(lambda: os.path.exists(path + ".lease") and os.remove(path + ".lease"))
        self.guest = harness.Guest(self.test, harness.micro("chain"),
                                   f"mib={chance.choice((1, 2, 4))} rounds={chance.choice((30, 60, 120))}", memory_mib=32, vcpus=1,
                                   disks=disks)
        self.trace = self.guest.path("trace")
        self.guest.expect("micro: chain round=1 ", 60)
        return kind

    def make_pair(self, kind):
        copied = {}
        if kind == "copied":
            folder = self.strike.copied_folder()
            copied["data"] = os.path.join(folder, "data") if folder else self.test.disk(0)
            with open(copied["data"], "wb") as file:
                file.truncate(DISK)
        keep = self.guest.config
        if kind == "shared":
            disk = keep["disks"][0]
            self.guest.config = dict(keep, disks=[dict(disk, lock=dict(disk["lock"], owner="host1"))])
        self.pair = Pair(self.test, self.guest, copied)
        self.guest.config = keep

    def options(self):
        chance = self.chance
        return {"downtime_ms": chance.choice((1, 20, 300)), "post_copy": "automatic" if self.post_copy else "never",
                "compress": chance.choice(("none", "zstd")), "throttle_max_percent": chance.choice((0, 60, 99))}

    def begin(self):
        """False: it was refused, or a process died of it."""
        self.make_pair(self.machine())
        options = self.options()
        link = Link(self.test, self.chance.choice(("tcp", "unix")), self.chance.choice((1, 2, 4)), wired=True, **self.strike.wire())
        self.agents = Agents(self.test, self.pair, link)
        self.strike.prepare()
        try:
            self.pair.begin(link, **options)
        except (AssertionError, EOFError, OSError) as error:
            self.agents.told.append(("refused", str(error)[:200]))
            link.close_ends()
            return False
        if self.post_copy and self.chance.random() < 0.7:
            time.sleep(self.chance.choice((0, 0.02, 0.05)))
            self.force_post_copy()
        return True

    @property
    def link(self):
        return self.agents.link

    def force_post_copy(self):
        try:
            self.pair.source.control.ask("migrate_force", how="post_copy")
        except (EOFError, OSError):
            pass

    def execute(self):
        if self.begin():
            self.strike.strike()
            self.strike.after()
            self.agents.settle()
        else:
            self.after_refusal()
        self.strike.end()
        return self.judge()

    def after_refusal(self):
        """What has never begun is not waited for."""
        destination = self.pair.destination.guest
        self.refused = True
        if destination.process.poll() is None:
            destination.kill()

    refused = False

    @staticmethod
    def rounds_of(guest):
        return [int(number) for number in re.findall(r"micro: chain round=(\d+) hash=\w+ ticks=\d+\n", guest.output())]

    def killed(self, side):
        return side.guest.process.poll() == -signal.SIGKILL

    def over(self):
        """Where the guest has ended: source, destination, or why it never will. None: it still runs."""
        source, destination = self.pair.sides()
        verdicts = [re.search(r"micro: chain (ok|FAIL)[^\n]*", side.guest.output()) for side in (source, destination)]
        if all(verdicts):
            raise AssertionError(f"DOUBLE RUN: both ended the guest\n{self.pair.story()}")
        for where, found in zip(("source", "destination"), verdicts):
            if found:
                if found.group(1) != "ok":
                    raise AssertionError(f"DAMAGED: {found.group(0)}\n{self.pair.story()}")
                return where
        near, far = self.agents.status(source), self.agents.status(destination)
        if near is None and far is None:
            return "gone with its owner"
        if self.killed(source) and self.refused:
            return "gone with its owner"
        if self.killed(source) and far and far["phase"] == "post_copy":
            return "gone: in post-copy"
        if self.killed(destination) and near and near["phase"] == "completed":
            return "gone with its owner"
        if self.killed(destination) and near and near["phase"] == "post_copy":
            return "gone: in post-copy"
        return None

    def judge(self):
        end = None
        deadline = time.monotonic() + 120
        while end is None:
            end = self.over()
            if end is None and time.monotonic() > deadline:
                raise AssertionError(f"LOST: nobody ends the guest\n{self.pair.story()}")
            time.sleep(0.02)
        source, destination = self.pair.sides()
        twice = set(self.rounds_of(source.guest)) & set(self.rounds_of(destination.guest))
        if twice:
            if self.strike.lies and self.record_lost == "Owner" and end == "source":
                return "went back, for a disk lied and its host went"
            raise AssertionError(f"DOUBLE RUN: rounds {sorted(twice)} were run by both\n{self.pair.story()}")
        if end.startswith("gone"):
            self.may_be_gone(end)
        return end

    def may_be_gone(self, end):
        source, destination = self.pair.sides()
        if not self.killed(source) and not self.killed(destination):
            raise AssertionError(f"LOST: nobody runs the guest, and nobody was killed\n{self.pair.story()}")
        ready = destination.status.get("handover") in ("Ready", "Parked", "Owner")
        if self.killed(source) and not self.killed(destination) and ready and not end.endswith("post-copy"):
            raise AssertionError(f"LOST: the destination had everything\n{self.pair.story()}")
        if self.killed(destination) and not self.killed(source) and source.status.get("handover") not in ("Released", "Committed"):
            raise AssertionError(f"LOST: the destination died and the source does not go on\n{self.pair.story()}")


def hung(*_):
    raise AssertionError(f"HUNG: not over after {HANG_SECONDS} s")


def run_one(job):
    seed, fault = job
    signal.signal(signal.SIGALRM, hung)
    signal.alarm(int(HANG_SECONDS * harness.SLOW))
    test = harness.Test()
    run = Run(test, seed, fault)
    begun = time.monotonic()
    result = {"seed": seed, "fault": run.fault}
    try:
        result["end"] = run.execute()
    except Exception as error:  # the harness may be wrong too: that counts as well
        result["wrong"] = f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        result["where"] = run.strike.where
        if run.agents:
            status = run.pair.source.status
            result.update(phases=run.pair.source.phases, far=run.pair.destination.phases, told=run.agents.told[:20],
                          downtime_ms=status.get("downtime_ms"), error=status.get("error"), lost=run.record_lost or None,
                          refused=run.refused)
        test.doCleanups()
    result["seconds"] = round(time.monotonic() - begun, 2)
    return result


def results(jobs, workers):
    if workers < 2:
        yield from map(run_one, jobs)
        return
    with multiprocessing.Pool(workers, maxtasksperchild=50) as pool:
        yield from pool.imap_unordered(run_one, jobs)


def table(ends):
    """Rows: faults; columns: ends."""
    columns = sorted({end for _, end in ends})
    print("fault".ljust(34) + "  ".join(columns))
    for fault in sorted({fault for fault, _ in ends}):
        print(fault.ljust(34) + "  ".join(str(ends[(fault, end)] or "").rjust(len(end)) for end in columns))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", choices=migration_strikes.FAULTS, help="only this one")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--report")
    arguments = parser.parse_args()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("SKIP: /dev/kvm cannot be used")
        return 77
    if not migration_strikes.private_mounts():
        print("SKIP: this mounts small file systems: run it as root")
        return 77
    ends, wrong, reached = collections.Counter(), 0, 0
    report = open(arguments.report, "a", buffering=1) if arguments.report else None
    jobs = [(seed, arguments.fault) for seed in range(arguments.seed, arguments.seed + arguments.runs)]
    for result in results(jobs, arguments.jobs):
        ends[(result["fault"], result.get("end", "WRONG"))] += 1
        reached += result["where"].get("reached", True)
        if "wrong" in result:
            wrong += 1
            print(json.dumps(result), flush=True)
        if report:
            report.write(json.dumps(result) + "\n")
    table(ends)
    print(f"{arguments.runs} runs, {reached} of them reached by their fault, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
