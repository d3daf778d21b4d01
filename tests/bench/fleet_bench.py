#!/usr/bin/python3
"""What a fleet of simulated hosts in one process costs, against the real control plane of devstack/cloud.

One line a figure: `name key=value ...`. Memory and threads when all hosts serve and after a while of periodic work with
the intervals that are printed; CPU time of that while; the end. Each line ends with the machine's load."""
import argparse
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration/openstack"))
from fleet import Fleet  # noqa: E402
from openstack_cloud import OpenStackCloud  # noqa: E402
from process_cost import cpu_seconds, figure, memory_kib  # noqa: E402

MEMORY_GOAL_KIB = 300 * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=3, help="of periodic work that is measured")
    parser.add_argument("--report-interval", type=int, default=30)
    parser.add_argument("--update-interval", type=int, default=600)
    parser.add_argument("--check", action="store_true", help="fails when the goal is missed")
    words = parser.parse_args()
    cloud = OpenStackCloud.up(compute="none", proxy=False, agents=False, cinder=False, nfs=False, novnc=False)
    fleet = Fleet(cloud, "bench", words.hosts,
                  f"[DEFAULT]\nreport_interval = {words.report_interval}\nupdate_resources_interval = {words.update_interval}\n")
    begin = time.monotonic()
    fleet.start(words.hosts * 2 + 60)
    pid = fleet.process.pid
    figure("fleet_register", hosts=words.hosts, seconds=f"{time.monotonic() - begin:.1f}", cpu_s=f"{cpu_seconds(pid):.1f}")
    threads = fleet.threads()
    figure("fleet_registered", hosts=words.hosts, **memory_kib(pid), threads=threads,
           descriptors=len(os.listdir(f"/proc/{pid}/fd")))
    cpu, begin = cpu_seconds(pid), time.monotonic()
    time.sleep(words.minutes * 60)
    spent, wall = cpu_seconds(pid) - cpu, time.monotonic() - begin
    memory = memory_kib(pid)
    figure("fleet_idle", hosts=words.hosts, report_interval=words.report_interval, update_interval=words.update_interval,
           seconds=f"{wall:.0f}", cpu_percent=f"{100 * spent / wall:.1f}", **memory, threads=fleet.threads())
    begin = time.monotonic()
    status = fleet.end()
    figure("fleet_end", status=status, seconds=f"{time.monotonic() - begin:.1f}")
    if words.check and (memory["rss_kib"] > MEMORY_GOAL_KIB or status != 0):
        sys.exit(f"goal missed: {memory['rss_kib']} KiB of at most {MEMORY_GOAL_KIB}, exit status {status}")


if __name__ == "__main__":
    main()
