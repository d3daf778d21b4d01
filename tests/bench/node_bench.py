#!/usr/bin/python3
"""kumoi-compute with its simulated driver against Debian's nova-compute with its fake driver: one cloud, one run, a node
each, nothing to wait for but the control plane.

One line a figure, `name key=value ...`, kumoi and nova in turns where that is possible:
 memory    of the node's process with the burst's servers on it
 idle      processor time of periodic work with Nova's intervals (report 10 s, resources 60 s; power sync 150 s instead of
           600 s in both, so that the window has two), scaled to an hour
 latency   request to ACTIVE, one server after another, seen by a client that asks every 20 ms
 burst     100 servers by one request: builds a second, and who used the processors meanwhile
 build     node side of the builds of `latency`: from build_and_run_instance to the message that saves ACTIVE, and to
           the next one after that was saved (build_tap.py); and the processor time of the node's process a build
 waits     where a build's wall time goes (kumoi only, from its metrics): calls to conductor and requests to each service
           with their seconds a build, and what is left of the wall time: the node's own share
 limit     who the burst waited for: how much of all processors' time was used, by whom, and the node's part of it
"""
import argparse
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration/openstack"))
from build_tap import BuildTap  # noqa: E402
from fleet import broker_login  # noqa: E402
from openstack_cloud import ADDRESS, DEVSTACK, ROOT, OpenStackCloud, wait_until  # noqa: E402
from process_cost import cpu_seconds, figure, memory_kib, processors, wait_sums  # noqa: E402

BUILD = pathlib.Path(os.environ.get("KUMOI_BUILD", ROOT / "build/release"))
PYTHON = "import sys; from nova.cmd.compute import main; sys.argv[0] = 'nova-compute'; sys.exit(main())"
INTERVALS = "report_interval = 10\nupdate_resources_interval = 60\nsync_power_state_interval = 150\nperiodic_fuzzy_delay = 60\n"
ROLES = ("nova-api", "nova-conductor", "nova-scheduler", "placement", "neutron", "keystone", "mariadb", "rabbit")


class Node:
    def __init__(self, cloud, kind, host):
        self.kind, self.host = kind, host
        self.cloud_state = cloud.state
        extra = cloud.state / f"bench-{kind}.conf"
        driver = "fake.FakeDriver" if kind == "nova" else "simulated\nmode = openstack"
        extra.write_text(f"[DEFAULT]\ncompute_driver = {driver}\n{INTERVALS}log_file = {cloud.state}/log/bench-{kind}.log\n"
                         "[simulated]\nvcpus = 1000\nmemory_mb = 800000\nlocal_gb = 600000\n[metrics]\nlisten = 127.0.0.1:9177\n")
        program = ["/usr/bin/python3", "-c", PYTHON] if kind == "nova" else [str(BUILD / "bin/kumoi-compute")]
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [str(DEVSTACK / "lib/in-namespace.sh"), host, *program, "--config-file", f"{cloud.state}/etc/{host}/nova.conf",
             "--config-file", str(extra)], env={**os.environ, "KUMOI_CLOUD_STATE": str(cloud.state)})
        self.pid = self.process.pid

    def waits(self):
        """Of whom it asked: (requests, seconds) so far; nothing of Python's."""
        if self.kind == "nova":
            return {}
        words = [str(DEVSTACK / "lib/in-namespace.sh"), self.host, "curl", "-s", "http://127.0.0.1:9177/metrics"]
        return wait_sums(subprocess.run(words, capture_output=True, text=True, check=True, env={
            **os.environ, "KUMOI_CLOUD_STATE": str(self.cloud_state)}).stdout)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


class Bench:
    def __init__(self, cloud, nodes, tap, words):
        self.cloud, self.nodes, self.tap, self.words = cloud, nodes, tap, words
        self.image = cloud.rest.get("image", "/images?name=tiny")["images"][0]["id"]
        self.flavor = cloud.rest.get("compute", "/flavors?minDisk=0")["flavors"]
        self.flavor = next(one["id"] for one in self.flavor if one["name"] == "m1.nano")
        self.network = next(one["id"] for one in cloud.rest.get("network", "/networks")["networks"] if one["name"] == "private")

    def create(self, name, host, count=1):
        body = {"server": {"name": name, "flavorRef": self.flavor, "imageRef": self.image, "host": host, "min_count": count,
                           "networks": [{"uuid": self.network}] if self.words.network else "none"}}
        return self.cloud.rest.request("POST", "compute", "/servers", body, timeout=300)["server"]["id"]

    def servers(self, name):
        found = self.cloud.rest.get("compute", f"/servers/detail?name=^{name}&limit=1000")["servers"]
        failed = [one for one in found if one["status"] == "ERROR"]
        if failed:
            raise AssertionError(f"server {failed[0]['id']}: {failed[0].get('fault')}")
        return found

    def wait_active(self, name, count):
        return wait_until(lambda: (found := self.servers(name)) and len(found) == count and
                          all(one["status"] == "ACTIVE" for one in found) and found, 900, f"{count} ACTIVE servers")

    def latency(self):
        seconds = {node.kind: [] for node in self.nodes}
        built = {node.kind: [] for node in self.nodes}
        spent = {node.kind: 0 for node in self.nodes}
        waited = []
        for turn in range(self.words.turns):
            for node in self.nodes:
                begin, cpu, before = time.monotonic(), cpu_seconds(node.pid), node.waits()
                server = self.create(f"turn-{turn}", node.host)
                wait_until(lambda one=server: self.cloud.server(one)["status"] == "ACTIVE", 120, "ACTIVE", 0.02)
                seconds[node.kind].append(time.monotonic() - begin)
                wait_until(lambda one=server: one in self.tap.finished, 60, "the action's end")
                if before:
                    waited.append((server, before, node.waits()))
                spent[node.kind] += cpu_seconds(node.pid) - cpu
                built[node.kind].append(server)
                self.remove([server])
        for kind, all_of_it in seconds.items():
            figure("latency", node=kind, turns=len(all_of_it), p50_ms=f"{1000 * statistics.median(all_of_it):.0f}",
                   max_ms=f"{1000 * max(all_of_it):.0f}")
            active, finished = self.tap.build_seconds(built[kind])
            figure("build", node=kind, p50_ms=f"{1000 * statistics.median(active):.0f}", max_ms=f"{1000 * max(active):.0f}",
                   to_finish_p50_ms=f"{1000 * statistics.median(finished):.0f}",
                   node_cpu_ms=f"{1000 * spent[kind] / len(built[kind]):.1f}",
                   instance_calls=statistics.median(self.tap.calls[one] for one in built[kind]))

        self.waits(waited)

    def waits(self, waited):
        """Medians over the builds; requests of other threads meanwhile (reports of every 10 s) count as waits too."""
        builds = []
        for server, before, after in waited:
            delta = {who: (count - before.get(who, (0, 0))[0], seconds - before.get(who, (0, 0))[1])
                     for who, (count, seconds) in after.items()}
            _, (wall,) = self.tap.build_seconds([server])
            builds.append((wall, delta))
        words = {}
        for who in sorted({who for _, delta in builds for who in delta}):
            words[f"{who}_calls"] = statistics.median(delta.get(who, (0, 0))[0] for _, delta in builds)
            words[f"{who}_ms"] = f"{1000 * statistics.median(delta.get(who, (0, 0))[1] for _, delta in builds):.0f}"
        own = statistics.median(max(0, wall - sum(seconds for _, seconds in delta.values())) for wall, delta in builds)
        figure("waits", node="kumoi", wall_p50_ms=f"{1000 * statistics.median(wall for wall, _ in builds):.0f}", **words,
               own_p50_ms=f"{1000 * own:.0f}")

    def remove(self, servers):
        for server in servers:
            self.cloud.rest.delete("compute", f"/servers/{server}")
        for server in servers:
            self.cloud.wait_gone(server, 600)

    def burst(self, node):
        processes = {role: self.pids(role) for role in ROLES}
        before = {role: sum(cpu_seconds(pid) for pid in pids) for role, pids in processes.items()}
        own, begin = cpu_seconds(node.pid), time.monotonic()
        all_before = processors()
        self.create(f"burst-{node.kind}", node.host, self.words.servers)
        servers = [one["id"] for one in self.wait_active(f"burst-{node.kind}", self.words.servers)]
        wall = max(self.tap.active[one] for one in servers) - begin
        own = cpu_seconds(node.pid) - own
        used = {role: sum(cpu_seconds(pid) for pid in pids) - before[role] for role, pids in processes.items()}
        figure("burst", node=node.kind, servers=len(servers), seconds=f"{wall:.1f}", builds_per_s=f"{len(servers) / wall:.2f}",
               node_cpu_s=f"{own:.2f}", node_cpu_ms_a_build=f"{1000 * own / len(servers):.1f}",
               **{role.replace("-", "_") + "_cpu_s": f"{value:.1f}" for role, value in used.items()})
        busy, idle = (now - then for now, then in zip(processors(), all_before))
        figure("limit", node=node.kind, processors=os.cpu_count(), busy=f"{busy / (busy + idle):.2f}",
               node_of_busy=f"{own / busy:.4f}", control_plane_of_busy=f"{sum(used.values()) / busy:.2f}",
               node_could_build_per_s=f"{len(servers) * os.cpu_count() / own:.0f}")
        return servers

    def pids(self, role):
        """The role's first process and all its children."""
        wanted = [int((self.cloud.state / "run" / f"{role}.pid").read_text().split()[0])]
        for one in wanted:
            for children in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
                wanted += [int(child) for child in children.read_text().split()]
        return wanted

    def idle(self):
        seconds = self.words.idle
        begin = {node.kind: cpu_seconds(node.pid) for node in self.nodes}
        time.sleep(seconds)
        for node in self.nodes:
            spent = cpu_seconds(node.pid) - begin[node.kind]
            figure("idle", node=node.kind, servers=self.words.servers, measured_s=seconds,
                   cpu_s_per_hour=f"{spent * 3600 / seconds:.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=100)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--idle", type=int, default=310, help="seconds")
    parser.add_argument("--no-network", dest="network", action="store_false")
    words = parser.parse_args()
    cloud = OpenStackCloud.up(compute="none", proxy=False, agents=False, cinder=False, nfs=False, novnc=False)
    nodes = [Node(cloud, "nova", "kumoi-n1"), Node(cloud, "kumoi", "kumoi-n2")]
    tap = BuildTap(ADDRESS, *broker_login(cloud), [node.host for node in nodes])
    try:
        for node in nodes:
            wait_until(lambda one=node: one.host in cloud.manage("cell_v2", "list_hosts"), 120, f"{node.host} to be mapped", 2)
        bench = Bench(cloud, nodes, tap, words)
        bench.latency()
        left = []
        for node in nodes:
            left += bench.burst(node)
        for node in nodes:
            figure("memory", node=node.kind, **memory_kib(node.pid))
        bench.idle()
        bench.remove(left)
    finally:
        tap.end()
        for node in nodes:
            node.end()


if __name__ == "__main__":
    main()
