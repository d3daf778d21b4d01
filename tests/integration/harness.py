"""Runs kumoi-vmm with a real guest and talks to it: what every integration test is built from.

A test file ends with `harness.main()`. It exits 77 (ctest: skipped) with a printed reason where KVM, root
rights or a guest is missing. Everything a test starts is a child of it and ends with it; files live in one
temporary folder. Waiting is always for a condition with a deadline, never for a time.
"""
import ctypes
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(SOURCE, "tests/support"))
import keeper  # noqa: E402

VMM = os.environ.get("KUMOI_VMM", "")
MICRO = os.environ.get("KUMOI_MICRO_GUESTS", "")
SLOW = float(os.environ.get("KUMOI_TEST_PATIENCE", "1"))  # multiplies every deadline


def skip(reason):
    raise unittest.SkipTest(reason)


def guest_folder(script, *words):
    """The cache folder of a Linux guest part; skips if it was not built."""
    path = os.path.join(SOURCE, "tests/guests/linux", script)
    done = subprocess.run([path, "--print", *words], capture_output=True, text=True)
    folder = done.stdout.strip()
    if done.returncode != 0 or not os.path.isdir(folder):
        skip(f"the Linux guest is not built: run {' '.join([path, *words])} ({done.stderr.strip()})")
    return folder


def linux(file, *flavour):
    """The kernel; `full`: the flavour with the drivers of full.config."""
    return os.path.join(guest_folder("build.sh", *flavour), file)


def root_image(file):
    return os.path.join(guest_folder("make-root.sh"), file)


def micro(name):
    return os.path.join(MICRO, name + ".elf")


def micro_firmware(name, cmdline, path):
    """Writes a ROM of 128 KiB that starts a micro guest at the reset vector, without a loader."""
    with open(os.path.join(MICRO, "rom.bin"), "rb") as file:
        last = bytearray(file.read())
    last[:len(cmdline)] = cmdline.encode()
    with open(micro(name), "rb") as elf, open(path, "wb") as rom:
        rom.write(elf.read().ljust((128 << 10) - len(last), b"\0") + last)


def need_root():
    if os.geteuid() != 0:
        skip("this test makes a network namespace and TAP devices: run it as root")


def private_network():
    """Moves this process and its later children into a network namespace of their own. It goes with them."""
    need_root()
    clone_newnet = 0x40000000
    if ctypes.CDLL(None, use_errno=True).unshare(clone_newnet) != 0:
        skip(f"no new network namespace: {os.strerror(ctypes.get_errno())}")
    run("ip", "link", "set", "lo", "up")


def make_tap(name, *addresses):
    if not os.path.exists("/dev/net/tun"):
        skip("/dev/net/tun is missing: load the module tun")
    run("ip", "tuntap", "add", name, "mode", "tap", "vnet_hdr")
    for address in addresses:
        run("ip", "address", "add", address, "dev", name)
    run("ip", "link", "set", name, "up")


def open_tap(name):
    """A descriptor of an existing TAP, as a machine is given one."""
    tunsetiff, tap, no_packet_info, virtio_header = 0x400454ca, 0x0002, 0x1000, 0x4000
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    flags = tap | no_packet_info | virtio_header
    fcntl.ioctl(fd, tunsetiff, struct.pack("16sH22x", name.encode(), flags))
    return fd


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds * SLOW:.0f} s for {what}")
        time.sleep(0.02)


class Control:
    """The control socket, one request at a time; events are kept in self.events."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20 * SLOW)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        self.buffer = b""
        self.next_id = 1
        self.events = []

    def close(self):
        self.socket.close()

    def read_message(self):
        while b"\n" not in self.buffer:
            got = self.socket.recv(65536)
            if not got:
                raise EOFError("the control socket was closed")
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def ask(self, method, fds=None, **params):
        """The whole answer: {"id", "result"} or {"id", "error"}. `fds`: descriptors that go along, by name."""
        request_id = self.next_id
        self.next_id += 1
        request = {"id": request_id, "method": method, "params": params}
        if fds:
            request["fds"] = list(fds)
        line = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(self.socket, [line], list(fds.values())) if fds else 0
        self.socket.sendall(line[sent:])
        while True:
            message = self.read_message()
            if message.get("id") == request_id:
                return message
            self.events.append(message)

    def call(self, method, fds=None, **params):
        answer = self.ask(method, fds, **params)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def save(self, path, **params):
        """A sandboxed machine makes no file: it gets one to write to."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            return self.call("save", fds={path: fd}, path=path, **params)
        finally:
            os.close(fd)

    def ask_add_disk(self, disk):
        fd = os.open(disk["path"], os.O_RDWR | os.O_CLOEXEC)
        try:
            return self.ask("add_disk", fds={disk["path"]: fd}, disk=disk)
        finally:
            os.close(fd)

    def add_disk(self, disk):
        answer = self.ask_add_disk(disk)
        if "error" in answer:
            raise AssertionError(f"add_disk: {answer['error']}")
        return answer["result"]

    def add_nic(self, nic):
        fd = open_tap(nic["tap"])
        try:
            return self.call("add_nic", fds={"tap:" + nic["tap"]: fd}, nic=nic)
        finally:
            os.close(fd)

    def wait_event(self, name):
        while True:
            for index, event in enumerate(self.events):
                if event.get("event") == name:
                    return self.events.pop(index)
            self.events.append(self.read_message())


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def check_waves(guest):
    """Of tests/guests/micro/waves.c, whose disk may be in the middle of one wave, never of two."""
    guest.control().call("pause")
    with open(guest.config["disks"][0]["path"], "rb") as file:
        content = file.read()
    stamps = [int.from_bytes(content[at:at + 8], "little") for at in range(0, len(content), 512)]
    steps = sum(1 for before, after in zip(stamps, stamps[1:]) if before != after)
    if steps > 1 or stamps[0] - stamps[-1] not in (0, 1):
        raise AssertionError(f"the disk mixes waves: {steps} steps from {stamps[0]} to {stamps[-1]}")


class Guest:
    """One kumoi-vmm process. Keywords override or add members of guest.json."""

    def __init__(self, test, kernel, cmdline="", memory_mib=64, vcpus=1, initrd=None, start=True,
                 name="guest", **members):
        self.folder = tempfile.mkdtemp(prefix="kumoi-it-")
        test.addCleanup(shutil.rmtree, self.folder, True)
        boot = {"kernel": kernel, "cmdline": cmdline}
        if initrd:
            boot["initrd"] = initrd
        self.config = {"name": name, "memory_mib": memory_mib, "vcpus": vcpus, "boot": boot,
                       "serial": {"log": self.path("console.log"),
                                  "socket": self.path("console.sock")},
                       "control_socket": self.path("control.sock"), "on_crash": "exit", **members}
        self.process = None
        self.seen = 0
        self.test = test
        if start:
            self.start()

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, *more):
        with open(self.path("guest.json"), "w") as file:
            json.dump(self.config, file)
        return self.run("--config", self.path("guest.json"), *more)

    def start_watched(self):
        """Starts it under a control connection that has subscribed before the first instruction; returns that."""
        self.run("--control", self.path("control.sock"))
        control = self.control()
        control.call("subscribe")
        machine = {key: value for key, value in self.config.items() if key != "control_socket"}
        control.call("create", config=machine, base_directory=self.folder)
        control.call("start")
        return control

    def run(self, *arguments):
        with open(self.path("vmm.log"), "ab") as log:
            self.process = subprocess.Popen([VMM, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=keeper.end_with_me)
        self.test.addCleanup(self.kill)
        return self

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def control(self):
        def connect():
            try:
                return Control(self.path("control.sock"))
            except OSError:
                self.check_alive()
                return None
        control = wait_until(connect, 10, "the control socket")
        self.test.addCleanup(control.close)
        return control

    def check_alive(self):
        code = self.process.poll()
        if code is not None:
            raise AssertionError(f"kumoi-vmm ended with {code}\n{self.story()}")

    def output(self):
        try:
            with open(self.path("console.log"), "rb") as file:
                return file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def story(self):
        with open(self.path("vmm.log"), errors="replace") as file:
            log = file.read()
        return f"--- console\n{self.output()[-3000:]}\n--- kumoi-vmm\n{log[-3000:]}"

    def expect(self, pattern, seconds=30):
        """Waits for a pattern in what the console printed since the last match; returns the match."""
        expression = re.compile(pattern)
        deadline = time.monotonic() + seconds * SLOW
        while True:
            ended = self.process.poll() is not None
            found = expression.search(self.output(), self.seen)
            if found:
                self.seen = found.end()
                return found
            if ended or time.monotonic() > deadline:
                why = f"ended with {self.process.returncode}" if ended else f"silent for {seconds} s"
                raise AssertionError(f"no /{pattern}/: kumoi-vmm {why}\n{self.story()}")
            time.sleep(0.02)

    def wait_exit(self, seconds=30):
        try:
            return self.process.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"kumoi-vmm did not end in {seconds} s\n{self.story()}") from None

    def console(self):
        """A connected console socket."""
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.settimeout(20 * SLOW)
        wait_until(lambda: os.path.exists(self.path("console.sock")), 10, "the console socket")
        stream.connect(self.path("console.sock"))
        self.test.addCleanup(stream.close)
        return stream


def read_until(stream, wanted, seconds=20):
    """Reads a socket until the bytes `wanted` came; returns all that was read."""
    got = b""
    deadline = time.monotonic() + seconds * SLOW
    while wanted not in got:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([stream], [], [], left)[0]:
            raise AssertionError(f"no {wanted!r} in {got[-500:]!r}")
        piece = stream.recv(65536)
        if not piece:
            raise AssertionError(f"closed before {wanted!r}: {got[-500:]!r}")
        got += piece
    return got


class Test(unittest.TestCase):
    def disk(self, mib):
        """A sparse disk file that goes with the test."""
        file = tempfile.NamedTemporaryFile(prefix="kumoi-it-", suffix=".raw")
        self.addCleanup(file.close)
        file.truncate(mib << 20)
        return file.name

    def root_disk(self):
        """A copy of the Linux guest's root image."""
        path = self.disk(16)
        shutil.copyfile(root_image("kumoi-tiny.raw"), path)
        return path

    def background(self, *command):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, preexec_fn=keeper.end_with_me)

        def stop():
            process.kill()
            process.wait()
        self.addCleanup(stop)
        return process


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ctest's timeout: clean up first
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as error:
        print(f"SKIP: /dev/kvm cannot be used: {error.strerror}")
        sys.exit(77)
    if not os.access(VMM, os.X_OK):
        print(f"KUMOI_VMM={VMM!r} is not a program")
        sys.exit(1)
    program = unittest.main(verbosity=2, exit=False)
    result = program.result
    for _, reason in result.skipped:
        print(f"SKIP: {reason}")
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if result.testsRun > 0 and len(result.skipped) == result.testsRun else 0)
