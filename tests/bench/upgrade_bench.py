#!/usr/bin/python3
"""Live upgrade: how long the guest stands still, by the older process's clock and for somebody who watches the guest (a sign on
its serial port every 200 us, read from a pipe that both processes write to).

    upgrade_bench.py --vmm kumoi-vmm --micro FOLDER [--runs N] [--check]

One line a case: upgrade_stop memory_mib=... runs=... stop_ms=median,p95,max gap_ms=median,p95,max load=...
--check fails where the median gap is above 15 ms.
"""
import argparse
import os
import select
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/integration"))
GOAL_MS = 15


class Signs:
    """Times of what comes out of a pipe."""

    def __init__(self, path):
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.times, self.stopping = [], False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping:
            if select.select([self.fd], [], [], 0.2)[0] and os.read(self.fd, 4096):
                self.times.append(time.monotonic())

    def gap_ms(self, begin, end):
        """The longest silence between these times."""
        times = [at for at in self.times if begin <= at <= end]
        return max(after - before for before, after in zip(times, times[1:])) * 1000

    def close(self):
        self.stopping = True
        self.thread.join()
        os.close(self.fd)


def spread(values):
    values = sorted(values)
    return ",".join(f"{value:.1f}" for value in
                    (values[len(values) // 2], values[min(len(values) - 1, int(len(values) * 0.95))], values[-1]))


def measure(harness, Link, upgrade, memory_mib, runs):
    test = harness.Test()
    try:
        guest = harness.Guest(test, harness.micro("gap"), f"fill={memory_mib - 64}", memory_mib=memory_mib, start=False)
        signs = Signs(guest.path("signs"))
        test.addCleanup(signs.close)
        guest.config["serial"] = {"log": guest.path("signs")}
        guest.start()
        stops, gaps = [], []
        deadline = time.monotonic() + 60
        while len(signs.times) < 200:
            if time.monotonic() > deadline:
                raise AssertionError(f"the guest gives no signs\n{guest.story()}")
            time.sleep(0.05)
        for _ in range(runs):
            begun = time.monotonic()
            guest, status = upgrade(test, guest, Link(test, streams=0))
            time.sleep(0.2)
            stops.append(status["downtime_ns"] / 1e6)
            gaps.append(signs.gap_ms(begun, time.monotonic()))
        print(f"upgrade_stop memory_mib={memory_mib} runs={runs} stop_ms={spread(stops)} gap_ms={spread(gaps)} "
              f"load={os.getloadavg()[0]:.1f}", flush=True)
        return sorted(gaps)[len(gaps) // 2]
    finally:
        test.doCleanups()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vmm", required=True)
    parser.add_argument("--micro", required=True)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    os.environ["KUMOI_VMM"], os.environ["KUMOI_MICRO_GUESTS"] = os.path.abspath(arguments.vmm), \
        os.path.abspath(arguments.micro)
    import harness
    from migration_harness import Link
    from upgrade_harness import upgrade
    gaps = [measure(harness, Link, upgrade, memory_mib, arguments.runs) for memory_mib in (128, 1024)]
    return 1 if arguments.check and max(gaps) > GOAL_MS else 0


if __name__ == "__main__":
    sys.exit(main())
