#!/usr/bin/python3
"""The same guests, moved again and again: memory and clocks of one (chain), a disk that comes along (waves), checked by the
guests themselves to the end.

    migration_marathon.py [--moves N] [--report FILE]
"""
import argparse
import json
import os
import random
import shutil
import sys
import tempfile

import harness
from migration_harness import migrate


def move(test, guest, number, report, **how):
    chance = random.Random(number)
    guest, pair = migrate(test, guest, chance.choice(("tcp", "unix")), chance.choice((1, 2, 4)),
                          compress=chance.choice(("none", "zstd")), downtime_ms=chance.choice((20, 300)),
                          post_copy=chance.choice(("never", "automatic")) if not how else "never", seconds=120, **how)
    status = pair.source_status
    line = {"move": number, "downtime_ms": status["downtime_ns"] / 1e6, "total_ms": status["elapsed_ns"] / 1e6,
            "rounds": status["round"], "sent": status["memory"]["sent"], "phases": pair.source.phases}
    report.append(line)
    pair.source.guest.kill()
    return guest


def chain(test, moves, report):
    """Runs for ever; each move is followed by a look that it goes on, with its own checks of every page and clock."""
    guest = harness.Guest(test, harness.micro("chain"), "mib=4", memory_mib=48)
    guest.expect("micro: chain round=1 ", 60)
    for number in range(moves):
        guest = move(test, guest, number, report)
        found = guest.expect(r"micro: chain (round=\d+ hash|FAIL[^\n]*)", 60)
        if found.group(1).startswith("FAIL"):
            raise AssertionError(f"after move {number}: {found.group(0)}\n{guest.story()}")
    guest.kill()


def waves(test, moves, report, folder):
    """Writes a disk whose contents come along; at the end every sector must have one of two waves' stamps, in order."""
    def disk():
        path = os.path.join(folder, f"{random.getrandbits(64):x}.raw")
        with open(path, "wb") as file:
            file.truncate(4 << 20)
        return path
    guest = harness.Guest(test, harness.micro("waves"), "", memory_mib=48, disks=[{"id": "data", "path": disk()}])
    guest.expect("micro: waves 1", 60)
    for number in range(moves):
        left = guest.config["disks"][0]["path"]
        guest = move(test, guest, number, report, disks={"data": disk()})
        os.unlink(left)
        guest.expect(r"micro: waves \d+", 60)
    harness.check_waves(guest)
    guest.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--moves", type=int, default=10)
    parser.add_argument("--report")
    arguments = parser.parse_args()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("SKIP: /dev/kvm cannot be used")
        return 77
    folder = tempfile.mkdtemp(prefix="kumoi-marathon-")
    report, wrong = [], 0
    disk_moves = arguments.moves // 2
    try:
        for work, moves, extra in ((chain, arguments.moves - disk_moves, ()), (waves, disk_moves, (folder,))):
            test = harness.Test()
            try:
                work(test, moves, report, *extra)
            except (AssertionError, EOFError, OSError) as error:
                wrong += 1
                print(f"{work.__name__}: {type(error).__name__}: {error}", flush=True)
            finally:
                test.doCleanups()
    finally:
        shutil.rmtree(folder, True)
    if arguments.report:
        with open(arguments.report, "a") as file:
            file.writelines(json.dumps(line) + "\n" for line in report)
    downtimes = [line["downtime_ms"] for line in report]
    if downtimes:
        print(f"{len(report)} moves, {wrong} wrong; downtime ms: median {harness.percentile(downtimes, 0.5):.1f}, "
              f"p95 {harness.percentile(downtimes, 0.95):.1f}, p99 {harness.percentile(downtimes, 0.99):.1f}, max {max(downtimes):.1f}")
    return 1 if wrong or len(report) < arguments.moves else 0


if __name__ == "__main__":
    sys.exit(main())
