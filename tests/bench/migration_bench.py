#!/usr/bin/env python3
"""Live migration of kumoi-vmm against QEMU 7.2 (microvm): same guest (tests/guests/micro/gap.c), same run, in turns, medians;
then the goals, each met or MISSED with its figures. Ten to twelve minutes on a quiet machine; --quick: two. One line a case:

  migrate          memory_mib, fill_mib (data), set_mib and rate (MiB/s that the guest writes; 0: as fast as it can), link, streams, cap
                   total_ms    from the command to the source's "completed"
                   gap_ms      downtime for a client: between the last sign of the source's guest and the first of the destination's
                   inside_ms   downtime inside: largest step of the guest's TSC there (0: below 2 ms)
                   down_ms     what the program itself says of its downtime
                   sent_mib    bytes of memory sent
                   speed       of the guest while it was copied, against before (1: not slowed down; -: too short to say)
  downtime_goal    moves of a guest that writes, with several goals: share that kept theirs within 10 %
  cancel_ms        from the command until it is cancelled, in the middle of a copy
  peer_lost_ms     from the moment when nothing comes from the destination any more until the source gives up (QEMU: 15000 means
                   that it had not noticed by then)

usage: migration_bench.py --vmm build/release/bin/kumoi-vmm --micro build/release/tests/guests/micro [--quick] [--only NAME]
"""
import argparse
import os
import shutil
import statistics
import sys
import time

import migration_machines
from migration_machines import Guest, Kumoi, Qemu, Way

FIGURES = ("total_ms", "gap_ms", "inside_ms", "down_ms", "sent_mib", "speed")
CANCELS, LOSSES = 7, 3


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def text(value):
    return "-" if value is None else f"{value:.2f}"


class Bench:
    def __init__(self, options):
        self.options, self.begun = options, time.monotonic()
        self.medians = []  # (guest, way, {name: {figure: median}})
        self.goals = []

    def machines(self, guest):
        """Both, with the same guest, standing still."""
        kumoi = Kumoi(self.options, guest)
        kumoi.stand_still()
        qemu = Qemu(self.options, guest, kumoi.tsc)
        qemu.stand_still()
        return kumoi, qemu

    def turn(self, machine, function):
        """None: it did not work, and the machine is no more."""
        machine.go_on()
        try:
            result = function(machine)
            machine.stand_still()
            return result
        except (AssertionError, EOFError, OSError) as error:
            machine.broken = True
            if self.options.verbose:
                print(f"# {machine.name}: {error}", flush=True)
            return None

    def late(self, guest, way):
        late = time.monotonic() - self.begun > self.options.budget_s
        if late:
            print(f"skipped {guest.words()} {way.words()} budget_s={self.options.budget_s}", flush=True)
        return late

    def migrate(self, guest, ways, runs):
        if all(self.late(guest, way) for way in ways):
            return
        pair = self.machines(guest)
        try:
            for way in ways:
                if self.late(guest, way):
                    continue
                if any(machine.broken for machine in pair):
                    for machine in pair:
                        machine.end()
                    pair = self.machines(guest)
                results = {machine.name: [] for machine in pair}
                for _ in range(runs):
                    for machine in pair:
                        result = None if machine.broken else self.turn(machine, lambda machine: machine.measure(way))
                        if result:
                            results[machine.name].append(result)
                self.report(guest, way, results)
        finally:
            for machine in pair:
                machine.end()

    def report(self, guest, way, results):
        medians = {}
        for name, runs in results.items():
            medians[name] = {key: median([run[key] for run in runs]) for key in FIGURES} if runs else None
            words = " ".join(f"{key}={text(value)}" for key, value in medians[name].items()) if runs else \
                f"did_not_finish_in_s={migration_machines.GIVE_UP_S}"
            print(f"migrate who={name} {guest.words()} {way.words()} {words} runs={len(runs)} load={os.getloadavg()[0]:.1f}", flush=True)
        self.medians.append((guest, way, medians))

    def single(self, name, function, runs):
        """`runs`: of each machine, by name."""
        way = Way(cap_mib=100)
        pair = self.machines(Guest(1024, 900))
        values = {machine.name: [] for machine in pair}
        try:
            for turn in range(max(runs.values())):
                for machine in pair:
                    if turn < runs[machine.name] and not machine.broken:
                        values[machine.name].append(self.turn(machine, lambda machine: function(machine, way)))
        finally:
            for machine in pair:
                machine.end()
        values = {who: [value for value in list_ if value is not None] for who, list_ in values.items()}
        words = " ".join(f"{who}={text(median(list_))} {who}_max={text(max(list_, default=None))}" for who, list_ in values.items())
        print(f"{name} {words} {way.words()} runs={len(values['kumoi'])} load={os.getloadavg()[0]:.1f}", flush=True)
        return values["kumoi"]

    def downtime_goal(self, moves):
        """Guests that write, kumoi alone: does the client's gap stay within 110 % of what was asked for?"""
        kept, all_moves, worst = 0, 0, 0.0
        for guest in (Guest(256, 128, 64, 50), Guest(256, 128, 64, 200)):
            machine = Kumoi(self.options, guest)
            try:
                for goal in (30, 100, 300):
                    gaps = [machine.measure(Way("tcp", 2, downtime_ms=goal, cap_mib=500))["gap_ms"] for _ in range(moves)]
                    within = sum(gap <= goal * 1.1 for gap in gaps)
                    kept, all_moves, worst = kept + within, all_moves + len(gaps), max(worst, max(gaps) / goal)
                    print(f"downtime_goal goal_ms={goal} {guest.words()} gap_ms={text(median(gaps))} max={text(max(gaps))} "
                          f"kept={within} runs={len(gaps)} load={os.getloadavg()[0]:.1f}", flush=True)
            finally:
                machine.end()
        self.goal("downtime within 10 % of its goal or below in 95 % of moves", kept >= 0.95 * all_moves,
                  f"{kept} of {all_moves}, worst {worst:.2f} of its goal")

    def goal(self, what, met, figures):
        self.goals.append(f"goal {'met   ' if met else 'MISSED'} {what}: {figures}")

    def compare(self):
        both = [(guest, way, medians) for guest, way, medians in self.medians if medians["kumoi"] and medians["qemu"]]
        idle = [(guest, way, medians) for guest, way, medians in both if guest.set_mib == 0 and not way.cap_mib]
        where = "{0.memory_mib} MiB {0.set_mib}/{0.rate} {1.link} {1.streams} cap {1.cap_mib}"
        if idle:
            guest, way, medians = max(idle, key=lambda case: case[2]["kumoi"]["gap_ms"])
            gap = medians["kumoi"]["gap_ms"]
            self.goal("idle downtime at most 10 ms", gap <= 10, f"worst median of {len(idle)} cases {gap:.1f} ms ({where.format(guest, way)})")
            self.half(idle, "gap_ms", "idle downtime at most half of QEMU's", where)
        if both:
            self.half(both, "total_ms", "total time at most half of QEMU's", where)
        for _, way, medians in self.medians:
            if medians["kumoi"] is None:
                self.goal("every migration ends", False, where.format(_, way))

    def half(self, cases, figure, what, where):
        ratios = [(medians["kumoi"][figure] / medians["qemu"][figure], guest, way, medians) for guest, way, medians in cases]
        worst, guest, way, medians = max(ratios, key=lambda ratio: ratio[0])
        misses = sum(ratio[0] > 0.5 for ratio in ratios)
        self.goal(what, misses == 0, f"{len(cases) - misses} of {len(cases)} cases, median {statistics.median(r[0] for r in ratios):.2f} x, "
                  f"worst {worst:.2f} x: {medians['kumoi'][figure]:.1f} against {medians['qemu'][figure]:.1f} ms ({where.format(guest, way)})")

    def run(self):
        quick, only = self.options.quick, self.options.only
        runs = self.options.runs or (2 if quick else 3)
        if only in ("", "migrate"):
            streams = [Way(link, count) for link in ("unix", "tcp") for count in (1, 2, 4)]
            self.migrate(Guest(128, 64), [Way("unix"), Way("tcp")], runs)
            self.migrate(Guest(1024, 900), [Way("unix"), Way("tcp", 2)] if quick else streams + [Way(cap_mib=500)], runs)
            self.migrate(Guest(1024, 900, 128, 20), [Way("tcp", 2)] if quick else [Way("unix"), Way("tcp", 2)], runs)
            if not quick:
                self.migrate(Guest(1024, 900, 128, 100), [Way("unix"), Way("tcp", 2)], runs)
                self.migrate(Guest(1024, 900, 64, 50), [Way(cap_mib=500)], runs)
                self.migrate(Guest(4096, 3500), [Way("unix"), Way("tcp", 4)], 2)
                self.migrate(Guest(4096, 3500, 128, 100), [Way("tcp", 2)], 2)
                self.migrate(Guest(1024, 900, 256, 0), [Way("tcp", 2)], runs)
            self.compare()
        if only in ("", "downtime_goal"):
            self.downtime_goal(2 if quick else 10)
        if only in ("", "cancel_ms"):
            values = self.single("cancel_ms", lambda machine, way: machine.cancel(way), {"kumoi": CANCELS, "qemu": CANCELS})
            self.goal("cancel at most 5 ms", bool(values) and max(values) <= 5, f"median {text(median(values))}, max {text(max(values))} ms")
        if only in ("", "peer_lost_ms"):
            values = self.single("peer_lost_ms", lambda machine, way: machine.lose_peer(way), {"kumoi": LOSSES, "qemu": 1})
            self.goal("loss of the peer detected within 2 s", bool(values) and max(values) <= 2000,
                      f"median {text(median(values))}, max {text(max(values))} ms")
        print("\n".join(self.goals))
        print(f"bench_migration took_s={time.monotonic() - self.begun:.0f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vmm", required=True, type=os.path.abspath)
    parser.add_argument("--micro", required=True, type=os.path.abspath)
    parser.add_argument("--runs", type=int, default=0, help="of each case; 0: as fits the time")
    parser.add_argument("--budget-s", type=int, default=540, help="after that no further case of `migrate` is begun")
    parser.add_argument("--quick", action="store_true", help="a few of the cases")
    parser.add_argument("--only", default="", choices=("", "migrate", "downtime_goal", "cancel_ms", "peer_lost_ms"))
    parser.add_argument("--verbose", action="store_true", help="what went wrong, where something did")
    options = parser.parse_args()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK) or not shutil.which("qemu-system-x86_64"):
        print("SKIP: this needs /dev/kvm and qemu-system-x86_64")
        sys.exit(77)
    Bench(options).run()


if __name__ == "__main__":
    main()
