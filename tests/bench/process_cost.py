"""What a process costs, from /proc; and how a figure is printed."""
import os
import pathlib
import re

TICKS = os.sysconf("SC_CLK_TCK")


def figure(name, **values):
    load = os.getloadavg()[0]
    print(name, *(f"{key}={value}" for key, value in values.items()), f"load={load:.1f}", flush=True)


def cpu_seconds(pid):
    """User and system time of all threads, dead ones included."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_kib(pid):
    """RSS, and PSS: shared pages counted by share."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {"rss_kib": sizes["Rss"], "pss_kib": sizes["Pss"], "private_kib": sizes["Private_Clean"] + sizes["Private_Dirty"]}


def processors():
    """Seconds that all processors were busy, and idle, since boot."""
    fields = [int(field) / TICKS for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, idle


def wait_sums(metrics):
    """From kumoi-compute's metrics: who was asked -> (requests, seconds)."""
    found = {}
    for line in metrics.splitlines():
        match = re.match(r'kumoi_(rpc_call|client_request)_seconds_(sum|count)(?:\{section="(\w+)"\})? (\S+)', line)
        if match:
            found.setdefault(match[3] or "conductor", {})[match[2]] = float(match[4])
    return {who: (int(values["count"]), values["sum"]) for who, values in found.items()}
