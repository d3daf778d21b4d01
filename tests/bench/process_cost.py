"""What a process costs, from /proc; and how a figure is printed."""
import os
import pathlib

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
