#!/usr/bin/env python3
"""A PlanetLab day under lr-mmt: CPU and memory of kumoi-sim, beside what CloudSim 3.0.3 took (measured once, on the machine of
the reference: Xeon 2.6 GHz). One line a case.

    tests/bench/planetlab_bench.py [--build build/release]
"""
import argparse
import lzma
import os
import pathlib
import resource
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRACES = ROOT / "tests/data/planetlab/planetlab-10days.csv.xz"


def cost(*words):
    """CPU seconds and MiB of one run."""
    child = os.fork()
    if child == 0:
        done = subprocess.run(words, stdout=subprocess.DEVNULL, check=False)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, file=open(RESULT, "w"))
        os._exit(0)
    os.waitpid(child, 0)
    code, seconds, mib = pathlib.Path(RESULT).read_text().split()
    if code != "0":
        raise SystemExit(f"{words} ended with {code}")
    return float(seconds), float(mib)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=ROOT / "build/release", type=pathlib.Path)
    sim = parser.parse_args().build / "bin/kumoi-sim"
    for day, cloudsim in (("20110303", "26.0 CPU s, 1127 MiB"), ("20110403", "(not measured)")):
        for name, traces in (("plain", PLAIN), ("xz", TRACES)):
            runs = [cost(sim, "planetlab", "--traces", traces, "--day", day, "--policy", "lr-mmt") for _ in range(5)]
            seconds, mib = sorted(runs)[2]
            print(f"planetlab {day} lr-mmt, {name} traces: {seconds:.3f} CPU s, {mib:.0f} MiB (goal 0.25, 32); CloudSim {cloudsim}")
    seconds, _ = cost(sim, "planetlab", "--traces", PLAIN, "--day", "all", "--policy", "all", "--jobs", "2")
    print(f"planetlab 10 days x 22 policies: {seconds:.1f} CPU s (goal: 60 s on two cores)")


with tempfile.TemporaryDirectory() as folder:
    RESULT = os.path.join(folder, "result")
    PLAIN = os.path.join(folder, "traces.csv")
    with lzma.open(TRACES) as packed, open(PLAIN, "wb") as plain:
        plain.write(packed.read())
    main()
