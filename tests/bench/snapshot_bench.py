#!/usr/bin/env python3
"""Saving and restoring kumoi-vmm against QEMU 7.2 (microvm), same guest (tests/guests/micro/chain.c with `--fill`
MiB of data), same run, one after the other in turns, medians.

  save             stopped guest to a durable file: MiB of guest data a second
  live_stop        how long the guest stands still for a snapshot taken while it runs
                   (QEMU: migrate with background-snapshot, its own figure)
  restore_first    process start to the first byte the guest prints after a restore
                   (QEMU: -incoming exec:cat), once with half the data and once with all of it
  first_instruction  the same with a guest that was saved in a loop of register instructions and a byte out each 0.1 ms
                   (tests/guests/micro/tick.c): from process start, and from the command to a process that waits for it
                   (kumoi: "restore" on the control socket; QEMU: migrate-incoming)

Prints one line each: name key=value ... QEMU 7.2 can write a snapshot to a pipe only: `exec:cat`.
usage: snapshot_bench.py --vmm build/release/bin/kumoi-vmm --micro build/release/tests/guests/micro
"""
import argparse
import json
import os
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import typing

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import harness  # noqa: E402


def wait_for(process, wanted, timeout=60, count=1):
    """Seconds on the clock when `wanted` had come `count` times on the process's output."""
    output = b""
    deadline = time.monotonic() + timeout
    while output.count(wanted) < count:
        left = deadline - time.monotonic()
        ready = left > 0 and select.select([process.stdout], [], [], left)[0]
        piece = os.read(process.stdout.fileno(), 65536) if ready else b""
        if not piece:
            sys.exit(f"{process.args[0]}: no {wanted!r} in {output[-300:]!r}")
        output += piece
    return time.monotonic()


class Guest(typing.NamedTuple):
    elf: str
    ready: bytes  # says it when its memory is as full as it will be
    first: bytes  # begins with this when it goes on


CHAIN = Guest("chain.elf", b"chain round=2 ", b"chain")
TICK = Guest("tick.elf", b"tick ready", b".")


def finish(process, wanted, begun):
    seconds = wait_for(process, wanted) - begun
    process.kill()
    process.wait()
    return seconds


class Kumoi:
    name = "kumoi"

    def __init__(self, options, folder, memory_mib, guest, cmdline):
        self.vmm, self.folder, self.guest = options.vmm, folder, guest
        self.file = os.path.join(folder, "kumoi.snapshot")
        self.socket = os.path.join(folder, "kumoi.sock")
        self.config = os.path.join(folder, "kumoi.json")
        with open(self.config, "w") as file:
            json.dump({"name": "bench", "memory_mib": memory_mib, "control_socket": self.socket,
                       "boot": {"kernel": os.path.join(options.micro, guest.elf), "cmdline": cmdline}}, file)

    def spawn(self, *arguments):
        return subprocess.Popen([self.vmm, "--serial", "stdio", *arguments], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, bufsize=0)

    def boot(self):
        self.process = self.spawn("--config", self.config)
        wait_for(self.process, self.guest.ready, 300)
        self.control = harness.wait_until(self.connect, 10, "the control socket")
        self.control.call("subscribe")

    def connect(self, path=None):
        try:
            return harness.Control(path or self.socket)
        except OSError:
            return None

    def save(self, **params):
        begun = time.monotonic()
        self.control.save(self.file, **params)
        while True:
            message = self.control.events.pop(0) if self.control.events else self.control.read_message()
            if message.get("event") == "save_failed":
                sys.exit(message)
            if message.get("event") == "save_done":
                return time.monotonic() - begun, message["data"]

    def save_stopped(self):
        return self.save(after="pause")[0]

    def live_stop_ms(self):
        return self.save(mode="live")[1]["stopped_ns"] / 1e6

    def restore(self, memory="demand"):
        try:
            os.unlink(self.file + ".ws")
        except FileNotFoundError:
            pass
        begun = time.monotonic()
        process = self.spawn("--restore", self.file, "--restore-memory", memory)
        return finish(process, self.guest.first, begun)

    def restore_by_command(self):
        path = self.socket + ".restore"  # the guest's own is in its snapshot
        process = self.spawn("--control", path)
        control = harness.wait_until(lambda: self.connect(path), 10, "the control socket")
        begun = time.monotonic()
        control.call("restore", path=self.file)
        return finish(process, self.guest.first, begun)

    def end(self):
        self.process.kill()
        self.process.wait()


class Qemu:
    name = "qemu"

    def __init__(self, options, folder, memory_mib, guest, cmdline):
        self.folder, self.guest = folder, guest
        self.file = os.path.join(folder, "qemu.snapshot")
        self.socket = os.path.join(folder, "qemu.sock")
        self.command = ["qemu-system-x86_64", "-M", "microvm", "-enable-kvm", "-cpu", "host,-arch-capabilities",
                        "-m", str(memory_mib), "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
                        "-kernel", os.path.join(options.micro, guest.elf), "-append", cmdline]

    def spawn(self, *arguments):
        return subprocess.Popen([*self.command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                bufsize=0)

    def boot(self):
        self.process = self.spawn("-qmp", f"unix:{self.socket},server=on,wait=off")
        wait_for(self.process, self.guest.ready, 300)
        self.connect()

    def connect(self):
        self.qmp = socket.socket(socket.AF_UNIX)
        try:
            self.qmp.connect(self.socket)
        except OSError:
            return False
        self.lines = self.qmp.makefile("r")
        self.lines.readline()
        self.ask("qmp_capabilities")
        self.ask("migrate-set-parameters", **{"max-bandwidth": 20_000_000_000})
        return True

    def restore_by_command(self):
        process = self.spawn("-incoming", "defer", "-qmp", f"unix:{self.socket},server=on,wait=off")
        harness.wait_until(self.connect, 10, "the control socket")
        begun = time.monotonic()
        self.ask("migrate-incoming", uri=f"exec:cat {self.file}")
        return finish(process, self.guest.first, begun)

    def ask(self, command, **arguments):
        request = {"execute": command, "arguments": arguments}
        self.qmp.sendall(json.dumps(request).encode() + b"\n")
        while True:
            message = json.loads(self.lines.readline())
            if "error" in message:
                sys.exit(f"QEMU: {command}: {message['error']}")
            if "return" in message:
                return message["return"]

    def migrate(self, background):
        self.ask("migrate-set-capabilities",
                 capabilities=[{"capability": "background-snapshot", "state": background}])
        begun = time.monotonic()
        # A guest that was stopped when it was saved stays stopped: restore the one that ran.
        path = self.file if background else self.file + ".stopped"
        self.ask("migrate", uri=f"exec:cat > {path}")
        while True:
            state = self.ask("query-migrate")
            if state["status"] == "completed":
                break
            if state["status"] in ("failed", "cancelled"):
                sys.exit(f"QEMU: {state}")
            time.sleep(0.002)
        with open(path, "rb") as file:  # durable, as ours is
            os.fsync(file.fileno())
        return time.monotonic() - begun, state

    def save_stopped(self):
        self.ask("stop")
        return self.migrate(False)[0]

    def live_stop_ms(self):
        return self.migrate(True)[1]["downtime"]

    def restore(self):
        begun = time.monotonic()
        process = self.spawn("-incoming", f"exec:cat {self.file}")
        return finish(process, self.guest.first, begun)

    def end(self):
        self.process.kill()
        self.process.wait()


def report(name, values, **more):
    text = "".join(f" {who}={statistics.median(list_):.2f}" for who, list_ in values.items())
    text += "".join(f" {key}={value}" for key, value in more.items())
    print(f"{name}{text} load={os.getloadavg()[0]:.1f}", flush=True)


def measure(options, folder, fill):
    machines = [kind(options, folder, fill + 64, CHAIN, f"mib=1 fill={fill}") for kind in (Kumoi, Qemu)]
    figures = {key: {machine.name: [] for machine in machines} for key in ("save", "stop", "restore")}
    figures["restore"]["kumoi_all"] = []
    for _ in range(options.runs):
        for machine in machines:
            machine.boot()
            try:
                figures["stop"][machine.name].append(machine.live_stop_ms())
                seconds = machine.save_stopped()
                figures["save"][machine.name].append(fill / seconds)
            finally:
                machine.end()
            figures["restore"][machine.name].append(machine.restore() * 1e3)
            if machine.name == "kumoi":
                figures["restore"]["kumoi_all"].append(machine.restore("all") * 1e3)
    report("save_mib_per_s", figures["save"], data_mib=fill)
    report("live_stop_ms", figures["stop"], data_mib=fill)
    report("restore_first_ms", figures["restore"], data_mib=fill)


def measure_first_instruction(options, folder, fill):
    machines = [kind(options, folder, fill + 64, TICK, f"fill={fill}") for kind in (Kumoi, Qemu)]
    started, commanded = ({machine.name: [] for machine in machines} for _ in range(2))
    for _ in range(options.runs):
        for machine in machines:
            machine.boot()
            machine.live_stop_ms()  # saved while it runs: QEMU leaves a stopped one stopped
            machine.end()
            for _ in range(3):
                started[machine.name].append(machine.restore() * 1e3)
                commanded[machine.name].append(machine.restore_by_command() * 1e3)
    report("first_instruction_from_start_ms", started, data_mib=fill)
    report("first_instruction_from_command_ms", commanded, data_mib=fill)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vmm", required=True, type=os.path.abspath)
    parser.add_argument("--micro", required=True, type=os.path.abspath)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--fill", type=int, default=512, help="MiB of data in the guest")
    options = parser.parse_args()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK) or not shutil.which("qemu-system-x86_64"):
        print("SKIP: this needs /dev/kvm and qemu-system-x86_64")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="kumoi-bench-", dir="/var/tmp") as folder:
        for fill in (options.fill // 2, options.fill):
            measure(options, folder, fill)
        measure_first_instruction(options, folder, options.fill // 2)


if __name__ == "__main__":
    main()
