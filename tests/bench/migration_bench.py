#!/usr/bin/env python3
"""Live migration of kumoi-vmm against QEMU 7.2 (microvm): same guest (tests/guests/micro/gap.c), same run, in turns,
medians. One line a case:

  migrate          memory_mib, fill_mib (data), set_mib and rate (MiB/s the guest writes; 0: as fast as it can), link, streams, cap
                   total_ms    from the command to the source's "completed"
                   gap_ms      between the guest's last sign on the source and its first on the destination, seen by who reads them
                   down_ms     what the program itself says of its downtime
                   sent_mib    bytes of memory sent
                   speed       of the guest while it was copied, against before (1: not slowed down)
  cancel_ms        from the command until it is cancelled, in the middle of a copy
  peer_lost_ms     from the moment when nothing comes from the destination any more until the source gives up (QEMU: 15000 means
                   that it had not noticed by then)

usage: migration_bench.py --vmm build/release/bin/kumoi-vmm --micro build/release/tests/guests/micro [--quick] [--only NAME]
"""
import argparse
import json
import os
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import harness  # noqa: E402
import migration_harness  # noqa: E402

GIVE_UP_S = 60
LOST_MAX_S = 15


class Signs:
    """Reads the dots of a guest on both sides, with the time at which each came."""

    def __init__(self):
        self.seen = {"source": [], "destination": []}  # (time, dots)
        self.sources = {}
        self.open = True
        self.wake, self.waker = os.pipe()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def add(self, side, fd):
        self.sources[fd] = side
        os.write(self.waker, b"x")

    def run(self):
        while self.open:
            for fd in select.select([self.wake, *self.sources], [], [], 1)[0]:
                try:
                    piece = os.read(fd, 65536)
                except OSError:
                    piece = b""
                if fd == self.wake:
                    continue
                if not piece:
                    self.sources.pop(fd, None)
                elif b"." in piece:
                    self.seen[self.sources[fd]].append((time.monotonic(), piece.count(b".")))

    def dots(self, side, begin, end):
        return sum(count for when, count in list(self.seen[side]) if begin <= when < end)

    def gap_ms(self):
        harness.wait_until(lambda: self.seen["destination"], 20, "a sign on the destination")
        return (self.seen["destination"][0][0] - self.seen["source"][-1][0]) * 1e3

    def close(self):
        self.open = False
        os.write(self.waker, b"x")
        self.thread.join(5)
        os.close(self.wake)
        os.close(self.waker)


class Case:
    def __init__(self, memory_mib=1024, fill=900, set_mib=0, rate=0, link="unix", streams=1, cap_mib=0):
        self.memory_mib, self.fill, self.set_mib, self.rate = memory_mib, fill, set_mib, rate
        self.link, self.streams, self.cap_mib = link, streams, cap_mib

    def cmdline(self):
        return f"fill={self.fill} mib={self.set_mib} rate={self.rate}"

    def words(self):
        return (f"memory_mib={self.memory_mib} fill_mib={self.fill} set_mib={self.set_mib} "
                f"rate={self.rate} link={self.link} streams={self.streams} cap_mib_s={self.cap_mib}")


class Cleanups:
    """What harness.Guest wants of a test."""

    def __init__(self):
        self.functions = []

    def addCleanup(self, function, *arguments):  # noqa: N802
        self.functions.append((function, arguments))

    def run(self):
        for function, arguments in reversed(self.functions):
            function(*arguments)
        self.functions.clear()


class Kumoi:
    name = "kumoi"

    def __init__(self, options, case, wired=False):
        harness.VMM, harness.MICRO = options.vmm, options.micro
        self.case, self.test = case, Cleanups()
        guest = harness.Guest(self.test, harness.micro("gap"), case.cmdline(), memory_mib=case.memory_mib)
        self.signs = Signs()
        self.test.addCleanup(self.signs.close)
        guest.expect("micro: gap ready", GIVE_UP_S)
        self.signs.add("source", guest.console().fileno())
        self.pair = migration_harness.Pair(self.test, guest)
        self.signs.add("destination", self.pair.guests[1].console().fileno())
        kind = "tcp" if case.link == "tcp" else "unix"
        self.link = migration_harness.Link(self.test, kind, case.streams, wired=wired)

    def begin(self):
        options = {"downtime_ms": 300}
        if self.case.cap_mib:
            options["bandwidth_bytes_s"] = self.case.cap_mib << 20
        self.pair.begin(self.link, **options)

    def finish(self):
        self.pair.wait("completed", GIVE_UP_S)
        status = self.pair.source_status
        down = status.get("downtime_ms", status.get("downtime_ns", 0) / 1e6)
        return {"down_ms": down, "sent_mib": status["memory"]["sent"] / 2**20}

    def cancel(self):
        self.pair.wait_phase("copying", 20)
        begun = time.monotonic()
        self.pair.source.control.call("migrate_cancel")
        self.pair.source.take_events()
        self.pair.wait_phase("cancelled", 20)
        return (time.monotonic() - begun) * 1e3

    def lose_peer(self):
        self.pair.wait_phase("copying", 20)
        begun = time.monotonic()
        for wire in self.link.wires:
            wire.hold()
        self.pair.wait_phase(migration_harness.ENDS, LOST_MAX_S)
        return (time.monotonic() - begun) * 1e3

    def end(self):
        self.test.run()


class Qmp:
    def __init__(self, path):
        def connect():
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                return True
            except OSError:
                self.socket.close()
                return False
        harness.wait_until(connect, 10, "QEMU's control socket")
        self.lines = self.socket.makefile("r")
        self.lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = json.loads(self.lines.readline())
            if "error" in message:
                raise AssertionError(f"QEMU: {command}: {message['error']}")
            if "return" in message:
                return message["return"]


class Qemu:
    name = "qemu"

    def __init__(self, options, case, wired=False):
        self.case, self.processes = case, []
        self.folder = tempfile.mkdtemp(prefix="kumoi-bench-")
        self.command = ["qemu-system-x86_64", "-M", "microvm", "-enable-kvm", "-cpu", "host,-arch-capabilities",
                        "-m", str(case.memory_mib), "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
                        "-kernel", os.path.join(options.micro, "gap.elf"), "-append", case.cmdline()]
        self.signs = Signs()
        self.source, self.source_qmp = self.spawn("source")
        output, ready = b"", b"micro: gap ready"
        while ready not in output:
            piece = os.read(self.source.stdout.fileno(), 65536)
            if not piece:
                sys.exit(f"QEMU: {output[-300:]!r}")
            output += piece
        self.signs.add("source", self.source.stdout.fileno())
        self.destination, self.destination_qmp = self.spawn("destination", "-incoming", "defer")
        self.signs.add("destination", self.destination.stdout.fileno())
        if case.link == "tcp":
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
            self.uri = f"tcp:127.0.0.1:{port}"
        else:
            self.uri = f"unix:{self.folder}/migration.sock"
        for qmp in (self.source_qmp, self.destination_qmp):
            if case.streams > 1:
                qmp.ask("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": True}])
                qmp.ask("migrate-set-parameters", **{"multifd-channels": case.streams})
            qmp.ask("migrate-set-parameters", **{"downtime-limit": 300,
                                                 "max-bandwidth": (case.cap_mib << 20) or 20_000_000_000})
        self.destination_qmp.ask("migrate-incoming", uri=self.uri)

    def spawn(self, name, *more):
        path = os.path.join(self.folder, name + ".qmp")
        process = subprocess.Popen([*self.command, "-qmp", f"unix:{path},server=on,wait=off", *more],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0,
                                   preexec_fn=harness.keeper.end_with_me)
        self.processes.append(process)
        return process, Qmp(path)

    def begin(self):
        self.source_qmp.ask("migrate", uri=self.uri)

    def wait(self, *states, seconds=GIVE_UP_S):
        deadline = time.monotonic() + seconds
        while True:
            state = self.source_qmp.ask("query-migrate")
            if state.get("status") in states:
                return state
            if state.get("status") in ("failed", "cancelled", "completed") or time.monotonic() > deadline:
                raise AssertionError(f"QEMU: {state}")
            time.sleep(0.002)

    def finish(self):
        state = self.wait("completed")
        return {"down_ms": state["downtime"], "sent_mib": state["ram"]["transferred"] / 2**20}

    def cancel(self):
        self.wait("active")
        begun = time.monotonic()
        self.source_qmp.ask("migrate_cancel")
        self.wait("cancelled")
        return (time.monotonic() - begun) * 1e3

    def lose_peer(self):
        self.wait("active")
        begun = time.monotonic()
        self.destination.send_signal(signal.SIGSTOP)
        try:
            self.wait("failed", seconds=LOST_MAX_S)
        except AssertionError:
            pass
        return min((time.monotonic() - begun) * 1e3, LOST_MAX_S * 1e3)

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.signs.close()
        shutil.rmtree(self.folder, True)


def measure(kind, options, case):
    machine = kind(options, case)
    try:
        settled = time.monotonic()
        time.sleep(1)  # its speed before
        begun = time.monotonic()
        machine.begin()
        figures = machine.finish()
        ended = time.monotonic()
        figures["gap_ms"] = machine.signs.gap_ms()
        figures["total_ms"] = (ended - begun) * 1e3
        before = machine.signs.dots("source", settled, begun) / (begun - settled)
        copying = machine.signs.seen["source"][-1][0] - begun
        during = machine.signs.dots("source", begun, begun + copying) / copying if copying > 0.05 else 0
        figures["speed"] = during / before if before and during else float("nan")
        return figures
    finally:
        machine.end()


def in_turns(options, function):
    """What function(kind) gives, `runs` times for each kind; None where it did not work."""
    results = {kind.name: [] for kind in (Kumoi, Qemu)}
    for _ in range(options.runs):
        for kind in (Kumoi, Qemu):
            try:
                results[kind.name].append(function(kind))
            except AssertionError as error:
                if options.verbose:
                    print(f"# {kind.name}: {error}", flush=True)
    return results


def report_case(options, case):
    results = in_turns(options, lambda kind: measure(kind, options, case))
    for name, runs in results.items():
        text = " ".join(f"{key}={statistics.median(run[key] for run in runs):.2f}" for key in
                        ("total_ms", "gap_ms", "down_ms", "sent_mib", "speed")) if runs else \
            f"did_not_finish_in_s={GIVE_UP_S}"
        print(f"migrate who={name} {case.words()} {text} runs={len(runs)} load={os.getloadavg()[0]:.1f}", flush=True)


def report_single(options, name, case, wired, act):
    def run(kind):
        machine = kind(options, case, wired)
        try:
            machine.begin()
            return act(machine)
        finally:
            machine.end()
    results = in_turns(options, run)
    text = " ".join(f"{who}={statistics.median(values):.2f}" for who, values in results.items() if values)
    print(f"{name} {text} {case.words()} load={os.getloadavg()[0]:.1f}", flush=True)


def cases(options):
    yield Case(128, 64)
    yield Case(1024, 900)
    yield Case(1024, 900, link="tcp")
    yield Case(1024, 900, 128, 20)
    yield Case(1024, 900, 128, 100, "tcp", 2)
    if options.quick:
        return
    for streams in (2, 4):
        yield Case(1024, 900, link="tcp", streams=streams)
    yield Case(1024, 900, 256, 0)
    yield Case(1024, 900, cap_mib=500)
    yield Case(1024, 900, 64, 50, cap_mib=500)
    yield Case(4096, 3500)
    yield Case(4096, 3500, link="tcp", streams=2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--vmm", required=True, type=os.path.abspath)
    parser.add_argument("--micro", required=True, type=os.path.abspath)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a few of the cases")
    parser.add_argument("--only", default="", help="migrate, cancel_ms or peer_lost_ms")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK) or not shutil.which("qemu-system-x86_64"):
        print("SKIP: this needs /dev/kvm and qemu-system-x86_64")
        sys.exit(77)
    if options.only in ("", "migrate"):
        for case in cases(options):
            report_case(options, case)
    slow = Case(1024, 900, cap_mib=100)
    if options.only in ("", "cancel_ms"):
        report_single(options, "cancel_ms", slow, False, lambda machine: machine.cancel())
    if options.only in ("", "peer_lost_ms"):
        report_single(options, "peer_lost_ms", slow, True, lambda machine: machine.lose_peer())


if __name__ == "__main__":
    main()
