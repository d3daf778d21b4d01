#!/usr/bin/python3
"""The network device of kumoi-vmm against QEMU's (userspace, vhost=off), same guest, same TAP, in turns: how many frames
a second go from the guest to the TAP and back, and how much CPU time of the device's own threads one costs. The guest
(tests/guests/micro/netload.c) only moves ring indices, so the device is what is measured. Makes a network namespace
for itself; needs root, /dev/kvm and qemu-system-x86_64.

    sudo python3 tests/bench/net_bench.py --build build/release [--rounds 5]
"""
import argparse
import ctypes
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

MS = 1500
TAP = "bench0"
CLONE_NEWNET = 0x40000000
CASES = (("tx", "tx size=64", 64), ("tx", "tx size=1514", 1514), ("tx", "tso", 65226),
         ("rx", "rx", 60), ("rx", "rx", 1514))


def kumoi(build, folder, guest, cmdline):
    config = {"name": "bench", "memory_mib": 64, "vcpus": 1, "boot": {"kernel": guest, "cmdline": cmdline},
              "nics": [{"id": "net0", "tap": TAP, "mac": "52:54:00:12:34:56"}]}
    path = os.path.join(folder, "guest.json")
    with open(path, "w") as file:
        json.dump(config, file)
    return [os.path.join(build, "bin/kumoi-vmm"), "--config", path, "--serial", "stdio"]


def qemu(_build, _folder, guest, cmdline):
    return ["qemu-system-x86_64", "-M", "q35", "-enable-kvm", "-cpu", "host,-arch-capabilities", "-m", "64",
            "-name", "bench,debug-threads=on", "-nodefaults", "-vga", "none", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", guest,
            "-append", cmdline, "-netdev", f"tap,id=n,ifname={TAP},script=no,downscript=no,vhost=off",
            "-device", "virtio-net-pci,netdev=n,disable-legacy=on,mac=52:54:00:12:34:56"]


def family(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [pid] + [each for child in file.read().split() for each in family(int(child))]


def device_cpu_ns(pid):
    """Of all threads that run no vCPU."""
    total = 0
    for process in family(pid):
        for task in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{task}/comm") as file:
                name = file.read().strip()
            if not re.match(r"vcpu|CPU \d+/KVM", name):
                with open(f"/proc/{process}/task/{task}/schedstat") as file:
                    total += int(file.read().split()[0])
    return total


def run(command, flood):
    """(frames a second, CPU ns a frame) of one guest's life."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    output = b""
    try:
        while b"netload runs" not in output:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the guest did not start: {output!r}")
            output += line
        before = device_cpu_ns(process.pid)
        sender = subprocess.Popen(flood, stdout=subprocess.DEVNULL) if flood else None
        time.sleep(MS / 1000 * 0.9)
        cpu = (device_cpu_ns(process.pid) - before) / 0.9
        output += process.stdout.read()
        if sender:
            sender.wait()
    finally:
        process.kill()
        process.wait()
    found = re.search(rb"netload ok frames=(\d+) ms=(\d+)", output)
    if not found:
        raise RuntimeError(f"no figure in {output!r}")
    frames = int(found[1])
    return frames * 1000 / int(found[2]), cpu / max(frames, 1)


def private_network():
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "a network namespace")
    for words in (["tuntap", "add", "dev", TAP, "mode", "tap", "vnet_hdr"], ["link", "set", TAP, "up"]):
        subprocess.run(["ip", *words], check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--guest")
    parser.add_argument("--flood")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    if os.geteuid() != 0 or not os.access("/dev/kvm", os.W_OK) or not shutil.which("qemu-system-x86_64"):
        print("SKIP: this needs root, /dev/kvm and qemu-system-x86_64")
        return 0
    guest = options.guest or os.path.join(options.build, "tests/guests/micro/netload.elf")
    flood = options.flood or os.path.join(options.build, "tests/bench/frame_flood")
    private_network()
    with tempfile.TemporaryDirectory(prefix="net-bench-") as folder:
        for way, cmdline, size in CASES:
            if options.only not in f"{way}{size}":
                continue
            results = {"kumoi": [], "qemu": []}
            sender = [flood, TAP, str(size), str(MS)] if way == "rx" else None
            for _ in range(options.rounds):
                for name, command in (("kumoi", kumoi), ("qemu", qemu)):
                    line = f"{cmdline} ms={MS}"
                    results[name].append(run(command(options.build, folder, guest, line), sender))
            rate = {name: max(each[0] for each in all) for name, all in results.items()}
            middle = {name: statistics.median(each[0] for each in all) for name, all in results.items()}
            cpu = {name: min(each[1] for each in all) for name, all in results.items()}
            print(f"net {way} {size}: kumoi_per_s={rate['kumoi']:.0f} qemu_per_s={rate['qemu']:.0f} "
                  f"ratio={rate['kumoi'] / rate['qemu']:.2f} median_ratio={middle['kumoi'] / middle['qemu']:.2f} "
                  f"kumoi_cpu_ns={cpu['kumoi']:.0f} qemu_cpu_ns={cpu['qemu']:.0f} "
                  f"cpu_ratio={cpu['kumoi'] / cpu['qemu']:.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
