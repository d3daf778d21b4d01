#!/usr/bin/python3
"""The same guests, upgraded again and again: memory and clocks of one (chain), a disk that is written (waves), a card that
echoes (net), checked by the guests themselves and from outside; with --faults, something goes wrong in most of them.

    upgrade_marathon.py [--upgrades N] [--faults] [--seed S]

A fault: the newer process killed or stopped for a while at a moment of chance, the connection cut at a byte, a cancel. Then the
daemon's part is played (migration_agents). In the end exactly one process runs the guest, unless the one that owned it was
killed; no round of its work is there twice.
"""
import argparse
import collections
import os
import random
import re
import signal
import socket
import sys
import time

import harness
from migration_agents import Agents
from migration_harness import Link
from upgrade_harness import Upgrade

FAULTS = ("none", "kill", "stop", "cut", "cancel")


class Run:
    def __init__(self, test, seed, faults):
        self.test, self.faults = test, faults
        self.chance = random.Random(seed)
        self.stops, self.ends = [], collections.Counter()
        self.epoch = 1

    def upgrade(self, guest):
        """Who runs it now; None: it died with the process that owned it."""
        fault = self.chance.choice(FAULTS) if self.faults else "none"
        wire = {"cut_at": (self.chance.randrange(2), int(10 ** self.chance.uniform(1, 5)))} if fault == "cut" else {}
        one = Upgrade(self.test, guest)
        one.prepare()
        link = Link(self.test, streams=0, wired=fault == "cut", **wire)
        one.begin(link, self.epoch)
        self.strike(one, fault)
        agents = Agents(self.test, one, link)
        agents.settle()
        return self.judge(one, fault, agents)

    def strike(self, one, fault):
        if fault == "none":
            return
        time.sleep(self.chance.uniform(0, 0.06))
        try:
            if fault == "kill":
                one.newer.process.kill()
                one.newer.process.wait()
            elif fault == "stop":
                pid = one.destination.control.call("hello")["pid"]
                os.kill(pid, signal.SIGSTOP)
                time.sleep(self.chance.choice((0.1, 0.7, 2.3)))
                os.kill(pid, signal.SIGCONT)
            elif fault == "cancel":
                one.source.control.ask("migrate_cancel")
        except (EOFError, OSError, AssertionError):
            pass  # it has ended

    def judge(self, one, fault, agents):
        one.source.take_events()  # its last words, where it ended before it was asked
        owner = one.destination.status.get("handover") == "Owner"
        last = one.source.phases[-1] if one.source.phases else "gone"
        if last == "completed" or owner or not agents.alive(one.source):
            one.older.wait_exit()
            if last == "completed" and one.source.status.get("downtime_ns"):
                self.stops.append(one.source.status["downtime_ns"] / 1e6)
            if one.newer.process.poll() is not None:
                if fault != "kill":
                    raise AssertionError(f"LOST after {fault}\n{one.story()}")
                self.ends[fault, "gone with its owner"] += 1
                return None
            self.ends[fault, "upgraded"] += 1
            self.epoch += 1
            return self.running(one, one.newer)
        one.newer.process.kill()  # of no use any more
        one.newer.process.wait()
        self.ends[fault, "stayed"] += 1
        status = one.source.ask_status()
        self.epoch = status["epoch"]
        return self.running(one, one.older)

    @staticmethod
    def running(one, guest):
        state = guest.control().call("state")["state"]
        if state != "running":
            raise AssertionError(f"the guest is {state}\n{one.story()}")
        return guest


def check_rounds(guest):
    rounds = [int(number) for number in re.findall(r"micro: chain round=(\d+) hash=\w+ ticks=\d+\n", guest.output())]
    if rounds != list(range(len(rounds))):
        raise AssertionError(f"DOUBLE RUN: the rounds are {rounds}")


def chain(run, count):
    def start():
        guest = harness.Guest(run.test, harness.micro("chain"), "mib=1", memory_mib=32)
        guest.expect("micro: chain round=1 ", 60)
        return guest
    guest = start()
    for number in range(count):
        before, guest = guest, run.upgrade(guest)
        if guest is None:
            check_rounds(before)
            guest, run.epoch = start(), 1
            continue
        found = guest.expect(r"micro: chain (round=\d+ hash|FAIL[^\n]*)", 60)
        if found.group(1).startswith("FAIL"):
            raise AssertionError(f"after upgrade {number}: {found.group(0)}\n{guest.story()}")
    check_rounds(guest)
    guest.kill()


def waves(run, count):
    """Every sector of the disk has one of two waves' stamps, in order."""
    def start():
        run.epoch = 1
        disk = run.test.disk(4)
        guest = harness.Guest(run.test, harness.micro("waves"), "", memory_mib=32, disks=[{"id": "data", "path": disk}])
        guest.expect("micro: waves 1", 60)
        return guest
    guest = start()
    for _ in range(count):
        guest = run.upgrade(guest) or start()
        guest.expect(r"micro: waves \d+", 60)
    harness.check_waves(guest)
    guest.kill()


def net(run, count):
    """Each datagram comes back once, also those that were sent while the guest stood still."""
    def start():
        run.epoch = 1
        nics = [{"id": "net0", "tap": "tap0", "mac": "52:54:00:4b:00:02"}]
        guest = harness.Guest(run.test, harness.micro("net"), "ip=10.78.0.2", memory_mib=32, nics=nics)
        guest.expect("micro: net up")
        return guest
    guest = start()
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    run.test.addCleanup(client.close)
    client.settimeout(20 * harness.SLOW)
    client.connect(("10.78.0.2", 7))
    for number in range(count):
        client.send(b"%d" % number)
        moved = run.upgrade(guest)
        if moved is None:
            guest = start()
            continue
        guest = moved
        back = client.recv(100)
        while back != b"%d" % number:  # of a guest that died with its process
            back = client.recv(100)
    guest.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--upgrades", type=int, default=12)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("SKIP: /dev/kvm cannot be used")
        return 77
    works = [chain, waves]
    if os.geteuid() == 0 and os.path.exists("/dev/net/tun"):
        harness.private_network()
        harness.make_tap("tap0", "10.78.0.1/24")
        works.append(net)
    wrong, stops, ends = 0, [], collections.Counter()
    for number, work in enumerate(works):
        test = harness.Test()
        run = Run(test, arguments.seed + number, arguments.faults)
        count = arguments.upgrades // len(works) + (number < arguments.upgrades % len(works))
        try:
            work(run, count)
        except (AssertionError, EOFError, OSError) as error:
            wrong += 1
            print(f"{work.__name__}: {type(error).__name__}: {error}", flush=True)
        finally:
            test.doCleanups()
        stops += run.stops
        ends.update(run.ends)
    for (fault, end), count in sorted(ends.items()):
        print(f"{count:5} {fault}: {end}")
    if stops:
        print(f"{len(stops)} stops, {wrong} wrong; ms: median {harness.percentile(stops, 0.5):.1f}, p95 {harness.percentile(stops, 0.95):.1f}, "
              f"max {max(stops):.1f}")
    return 1 if wrong or sum(ends.values()) < arguments.upgrades else 0


if __name__ == "__main__":
    sys.exit(main())
