"""What migration_bench.py moves: a kumoi-vmm and a QEMU 7.2 with the same micro guest (tests/guests/micro/gap.c), which says a dot
on its serial port every 200 us. Each is booted once and moved on and on; while one is measured the other stands still."""
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import harness  # noqa: E402
import migration_harness  # noqa: E402

GIVE_UP_S = 30
LOST_MAX_S = 15
READY = re.compile(rb"micro: gap ready tsc=(\d+)")


class Guest:
    def __init__(self, memory_mib=1024, fill=900, set_mib=0, rate=0):
        self.memory_mib, self.fill, self.set_mib, self.rate = memory_mib, fill, set_mib, rate

    def cmdline(self, tsc=0):
        return f"fill={self.fill} mib={self.set_mib} rate={self.rate}" + (f" tsc={tsc}" if tsc else "")

    def words(self):
        return f"memory_mib={self.memory_mib} fill_mib={self.fill} set_mib={self.set_mib} rate={self.rate}"


class Way:
    def __init__(self, link="unix", streams=1, cap_mib=0, downtime_ms=300):
        self.link, self.streams, self.cap_mib, self.downtime_ms = link, streams, cap_mib, downtime_ms

    def words(self):
        return f"link={self.link} streams={self.streams} cap_mib_s={self.cap_mib}"


class Signs:
    """Reads the dots of the processes a guest has run in, with the time at which each came."""

    def __init__(self):
        self.seen, self.text, self.sources = {}, {}, {}
        self.open = True
        self.wake, self.waker = os.pipe()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def add(self, number, fd):
        self.seen[number], self.text[number] = [], b""
        self.sources[fd] = number
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
                number = self.sources[fd]
                if not piece:
                    self.sources.pop(fd, None)
                    continue
                self.text[number] = self.text[number][-2000:] + piece.replace(b".", b"")
                if b"." in piece:
                    self.seen[number].append((time.monotonic(), piece.count(b".")))

    def dots(self, number, begin, end):
        return sum(count for when, count in list(self.seen[number]) if begin <= when < end)

    def gap_ms(self, before):
        """Between the last sign of one process and the first of the next."""
        harness.wait_until(lambda: self.seen[before + 1], 20, "a sign on the destination")
        return (self.seen[before + 1][0][0] - self.seen[before][-1][0]) * 1e3

    def inside_ms(self, number):
        """The first gap that the guest itself noticed there; 0: none of 2 ms."""
        found = re.search(rb"micro: gap us=(\d+)\n", self.text[number])
        return int(found.group(1)) / 1e3 if found else 0.0

    def close(self):
        self.open = False
        os.write(self.waker, b"x")
        self.thread.join(5)
        os.close(self.wake)
        os.close(self.waker)


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


class Machine:
    """A guest that moves. `number` counts the processes it has run in."""

    def __init__(self):
        self.signs, self.number = Signs(), 0
        self.broken = False  # something went wrong: no more of it

    def measure(self, way):
        settled = time.monotonic()
        time.sleep(0.4)  # its speed before
        begun = time.monotonic()
        self.begin(way)
        figures = self.finish()
        figures["total_ms"] = (time.monotonic() - begun) * 1e3
        figures["gap_ms"] = self.signs.gap_ms(self.number)
        time.sleep(0.01)  # for the guest to have said what it noticed
        figures["inside_ms"] = self.signs.inside_ms(self.number + 1)
        before = self.signs.dots(self.number, settled, begun) / (begun - settled)
        copying = self.signs.seen[self.number][-1][0] - begun
        during = self.signs.dots(self.number, begun, begun + copying) / copying if copying > 0.05 else 0
        figures["speed"] = during / before if before and during else None
        self.arrived()
        return figures


class Kumoi(Machine):
    name = "kumoi"

    def __init__(self, options, guest):
        super().__init__()
        harness.VMM, harness.MICRO = options.vmm, options.micro
        self.test = Cleanups()
        self.guest = harness.Guest(self.test, harness.micro("gap"), guest.cmdline(), memory_mib=guest.memory_mib)
        ready = self.guest.expect(READY.pattern.decode(), 2 * GIVE_UP_S)
        self.tsc = int(ready.group(1))
        self.console = self.guest.console()
        self.signs.add(0, self.console.fileno())

    def stand_still(self):
        self.guest.control().call("pause")

    def go_on(self):
        self.guest.control().call("resume")

    def begin(self, way, wired=False):
        self.pair = migration_harness.Pair(self.test, self.guest)
        self.console_there = self.pair.guests[1].console()
        self.signs.add(self.number + 1, self.console_there.fileno())
        self.link = migration_harness.Link(self.test, "tcp" if way.link == "tcp" else "unix", way.streams, wired=wired)
        cap = {"bandwidth_bytes_s": way.cap_mib << 20} if way.cap_mib else {}
        self.pair.begin(self.link, downtime_ms=way.downtime_ms, **cap)

    def finish(self):
        self.pair.wait("completed", GIVE_UP_S)
        status = self.pair.source_status
        return {"down_ms": status["downtime_ns"] / 1e6, "sent_mib": status["memory"]["sent"] / 2**20}

    def arrived(self):
        self.pair.quit_source()
        self.forget(self.guest)
        self.guest, self.console = self.pair.guests[1], self.console_there
        self.number += 1

    def stayed(self):
        self.forget(self.pair.guests[1])
        self.console_there.close()
        self.link.close()

    def forget(self, guest):
        for side in self.pair.sides():
            side.control.close()
        guest.kill()
        shutil.rmtree(guest.folder, True)

    def cancel(self, way):
        self.begin(way)
        self.pair.wait_phase("copying", 20)
        begun = time.monotonic()
        self.pair.source.control.call("migrate_cancel")
        self.pair.source.take_events()
        self.pair.wait_phase("cancelled", 20)
        took = (time.monotonic() - begun) * 1e3
        self.stayed()
        return took

    def lose_peer(self, way):
        self.begin(way, wired=True)
        self.pair.wait_phase("copying", 20)
        time.sleep(0.1)
        begun = time.monotonic()
        for wire in self.link.wires:
            wire.hold()
        self.pair.wait_phase(migration_harness.ENDS, LOST_MAX_S)
        took = (time.monotonic() - begun) * 1e3
        self.stayed()
        return took

    def end(self):
        self.signs.close()
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

    def close(self):
        self.lines.close()
        self.socket.close()


class Qemu(Machine):
    """As much like kumoi as its options go: the same channels (multifd), limit of downtime and bandwidth, and auto-converge."""
    name = "qemu"

    def __init__(self, options, guest, tsc):
        super().__init__()
        self.processes, self.count = [], 0
        self.folder = tempfile.mkdtemp(prefix="kumoi-bench-")
        self.command = ["qemu-system-x86_64", "-M", "microvm", "-enable-kvm", "-cpu", "host,-arch-capabilities",
                        "-m", str(guest.memory_mib), "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
                        "-kernel", os.path.join(options.micro, "gap.elf"), "-append", guest.cmdline(tsc)]
        self.source, self.qmp = self.spawn()
        output = b""
        while not READY.search(output):
            piece = os.read(self.source.stdout.fileno(), 65536)
            if not piece:
                sys.exit(f"QEMU: {output[-300:]!r}")
            output += piece
        self.signs.add(0, self.source.stdout.fileno())

    def spawn(self, *more):
        self.count += 1
        path = os.path.join(self.folder, f"{self.count}.qmp")
        process = subprocess.Popen([*self.command, "-qmp", f"unix:{path},server=on,wait=off", *more],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, bufsize=0, preexec_fn=harness.keeper.end_with_me)
        self.processes.append(process)
        return process, Qmp(path)

    def stand_still(self):
        self.qmp.ask("stop")

    def go_on(self):
        self.qmp.ask("cont")

    def begin(self, way):
        self.destination, self.destination_qmp = self.spawn("-incoming", "defer")
        self.signs.add(self.number + 1, self.destination.stdout.fileno())
        if way.link == "tcp":
            with socket.create_server(("127.0.0.1", 0)) as listener:
                uri = f"tcp:127.0.0.1:{listener.getsockname()[1]}"
        else:
            uri = f"unix:{self.folder}/{self.count}.migration"
        multifd = way.streams > 1
        for qmp in (self.qmp, self.destination_qmp):
            qmp.ask("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": multifd},
                                                              {"capability": "auto-converge", "state": True}])
            qmp.ask("migrate-set-parameters", **{"multifd-channels": way.streams, "downtime-limit": way.downtime_ms,
                                                 "max-bandwidth": (way.cap_mib << 20) or 20_000_000_000})
        self.destination_qmp.ask("migrate-incoming", uri=uri)
        self.qmp.ask("migrate", uri=uri)

    def wait(self, *states, seconds=GIVE_UP_S):
        deadline = time.monotonic() + seconds
        while True:
            state = self.qmp.ask("query-migrate")
            if state.get("status") in states:
                return state
            if state.get("status") in ("failed", "cancelled", "completed") or time.monotonic() > deadline:
                raise AssertionError(f"QEMU: {state}")
            time.sleep(0.002)

    def finish(self):
        state = self.wait("completed")
        return {"down_ms": state["downtime"], "sent_mib": state["ram"]["transferred"] / 2**20}

    def arrived(self):
        self.forget(self.source, self.qmp)
        self.source, self.qmp = self.destination, self.destination_qmp
        self.number += 1

    def stayed(self):
        self.forget(self.destination, self.destination_qmp)

    def forget(self, process, qmp):
        qmp.close()
        process.kill()
        process.wait()

    def cancel(self, way):
        self.begin(way)
        self.wait("active")
        begun = time.monotonic()
        self.qmp.ask("migrate_cancel")
        self.wait("cancelled")
        took = (time.monotonic() - begun) * 1e3
        self.stayed()
        return took

    def lose_peer(self, way):
        """LOST_MAX_S: it had not noticed by then."""
        self.begin(way)
        self.wait("active")
        time.sleep(0.1)
        begun = time.monotonic()
        self.destination.send_signal(signal.SIGSTOP)
        try:
            self.wait("failed", seconds=LOST_MAX_S)
        except AssertionError:
            self.qmp.ask("migrate_cancel")
        took = min((time.monotonic() - begun) * 1e3, LOST_MAX_S * 1e3)
        self.stayed()
        return took

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.signs.close()
        shutil.rmtree(self.folder, True)
