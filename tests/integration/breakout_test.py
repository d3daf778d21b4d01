"""A running machine is taken over, and tries to get out.

The test is the attacker who already has what a guest would have to win first: it stops a thread of a live,
sandboxed kumoi-vmm (as root, with ptrace) and makes that very thread ask the kernel for something, with the
filters, namespaces and rights that it has. Each attempt must end the process or be refused.
"""
import ctypes
import errno
import os
import re
import signal
import struct

import harness

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long
SEIZE, INTERRUPT, GETREGS, SETREGS, SINGLESTEP, DETACH = 0x4206, 0x4207, 12, 13, 9, 17
WALL = 0x40000000

# x86-64: asm/unistd_64.h
SOCKET, CONNECT, CLONE, FORK, EXECVE, KILL, PTRACE = 41, 42, 56, 57, 59, 62, 101
GETPID, MPROTECT, MMAP, OPEN, IOCTL, TGKILL, OPENAT, UNSHARE, BPF = 39, 10, 9, 2, 16, 234, 257, 272, 321
PRCTL, PROCESS_VM_READV, IO_URING_SETUP, SETRESUID, MOUNT, PIDFD_OPEN = 157, 310, 425, 117, 165, 434


class Registers(ctypes.Structure):
    """struct user_regs_struct"""
    _fields_ = [(name, ctypes.c_ulonglong) for name in (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
        "ds es fs gs").split()]


def ptrace(request, tid, address=None, data=None):
    if LIBC.ptrace(request, tid, address, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}: {os.strerror(ctypes.get_errno())}")


class Killed(Exception):
    pass


class Hijacked:
    """One thread of a live process, stopped; ask() makes it do a system call."""

    def __init__(self, pid, tid):
        self.pid, self.tid = pid, tid
        ptrace(SEIZE, tid)
        ptrace(INTERRUPT, tid)
        os.waitpid(tid, WALL)
        self.before = Registers()
        ptrace(GETREGS, tid, None, ctypes.addressof(self.before))
        self.gadget = self.find_syscall()
        self.scratch = (self.before.rsp - 8192) & ~0xfff

    def find_syscall(self):
        with open(f"/proc/{self.pid}/maps") as maps, open(f"/proc/{self.pid}/mem", "rb") as memory:
            for line in maps:
                found = re.match(r"([0-9a-f]+)-([0-9a-f]+) r-xp .*(?:libc\.so|/kumoi-vmm$)", line.rstrip())
                if found:
                    start, end = (int(word, 16) for word in found.groups())
                    memory.seek(start)
                    at = memory.read(end - start).find(b"\x0f\x05")  # syscall
                    if at >= 0:
                        return start + at
        raise AssertionError("no system call instruction in libc")

    def put(self, content):
        """Bytes into its stack, far below what it uses; returns where."""
        with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(self.scratch)
            memory.write(content)
        return self.scratch

    def ask(self, number, *arguments):
        registers = Registers.from_buffer_copy(self.before)
        registers.rip, registers.rax, registers.orig_rax = self.gadget, number, 2**64 - 1
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), list(arguments) + [0] * 6):
            setattr(registers, name, value & (2**64 - 1))
        ptrace(SETREGS, self.tid, None, ctypes.addressof(registers))
        while True:
            ptrace(SINGLESTEP, self.tid)
            _, status = os.waitpid(self.tid, WALL)
            if os.WIFSIGNALED(status):
                raise Killed(os.WTERMSIG(status))
            if os.WIFEXITED(status):
                raise Killed(0)
            if os.WSTOPSIG(status) == signal.SIGTRAP and status >> 16 == 0:
                break
        ptrace(GETREGS, self.tid, None, ctypes.addressof(registers))
        return ctypes.c_long(registers.rax).value

    def release(self):
        ptrace(SETREGS, self.tid, None, ctypes.addressof(self.before))
        ptrace(DETACH, self.tid)


def threads(pid):
    """By name; of several with one name the first."""
    found = {}
    for tid in sorted(map(int, os.listdir(f"/proc/{pid}/task"))):
        with open(f"/proc/{pid}/task/{tid}/comm") as file:
            found.setdefault(file.read().strip(), tid)
    return found


class Breakout(harness.Test):
    def setUp(self):
        harness.need_root()

    def machine(self):
        """A guest that is busy with its disk, whose thread is "disk0"."""
        guest = harness.Guest(self, harness.micro("blk"), "rounds=1000000",
                              disks=[{"id": "disk0", "path": self.disk(4)}])
        guest.expect("blk id=disk0")
        pid = guest.control().call("hello")["pid"]
        harness.wait_until(lambda: "disk0" in threads(pid), 10, "the disk's thread")
        return guest, pid, threads(pid)

    def requests(self, control):
        return control.call("statistics")["devices"]["disk0"]["writes"]

    def attempts(self, outside):
        """What is tried: name, and a function of the hijacked thread that returns what the kernel said."""
        door = struct.pack("H", 2) + struct.pack(">HI", 22, 0x7f000001) + bytes(8)
        argv = b"/bin/sh\0" + bytes(8)
        return {
            "open a file": lambda thread: thread.ask(OPENAT, -100, thread.put(b"/etc/passwd\0"), 0),
            "open a file the old way": lambda thread: thread.ask(OPEN, thread.put(b"/etc/passwd\0"), 0),
            "run a program": lambda thread: thread.ask(EXECVE, thread.put(argv), 0, 0),
            "make a process": lambda thread: thread.ask(FORK),
            "make a process by clone": lambda thread: thread.ask(CLONE, signal.SIGCHLD),
            "make a socket": lambda thread: thread.ask(SOCKET, 2, 1, 0),
            "connect": lambda thread: thread.ask(CONNECT, 3, thread.put(door), len(door)),
            "trace": lambda thread: thread.ask(PTRACE, 16, outside, 0, 0),
            "signal": lambda thread: thread.ask(KILL, outside, 0),
            "signal all": lambda thread: thread.ask(KILL, -1, signal.SIGKILL),
            "signal a thread": lambda thread: thread.ask(TGKILL, outside, outside, 0),
            "find a process": lambda thread: thread.ask(PIDFD_OPEN, outside, 0),
            "read another's memory": lambda thread: thread.ask(PROCESS_VM_READV, outside, 0, 0, 0, 0),
            "become root": lambda thread: thread.ask(SETRESUID, 0, 0, 0),
            "make namespaces": lambda thread: thread.ask(UNSHARE, 0x10000000),
            "mount": lambda thread: thread.ask(MOUNT, thread.put(b"proc\0"), thread.scratch, thread.scratch, 0, 0),
            "write code": lambda thread: thread.ask(MPROTECT, thread.scratch, 4096, 7),
            "map code": lambda thread: thread.ask(MMAP, 0, 4096, 7, 0x22, -1, 0),
            "load a program into the kernel": lambda thread: thread.ask(BPF, 0, 0, 0),
            "be dumped": lambda thread: thread.ask(PRCTL, 4, 1, 0, 0, 0),
            "type on a terminal": lambda thread: thread.ask(IOCTL, 2, 0x5412, thread.put(b"x")),
        }

    def try_out(self, kind, name, attempt):
        """One machine for one attempt, for it does not survive."""
        guest, pid, tids = self.machine()
        thread = Hijacked(pid, tids[kind])
        # The hijacked thread really asks, as the process that it is.
        self.assertEqual(thread.ask(GETPID), 1)
        with self.assertRaises(Killed, msg=f"{name} from {kind}") as killed:
            answer = attempt(thread)
            raise AssertionError(f"{name} from {kind}: the kernel answered {answer}")
        self.assertEqual(killed.exception.args[0], signal.SIGSYS, name)
        self.assertEqual(guest.wait_exit(10), -signal.SIGSYS, name)
        self.assertIn("asked for a system call that the sandbox does not allow", guest.story())
        self.assertFalse(os.path.exists(guest.path("control.sock")))

    def test_whatever_a_vcpu_thread_tries_ends_the_machine(self):
        for name, attempt in self.attempts(os.getpid()).items():
            with self.subTest(attempt=name):
                self.try_out("vcpu0", name, attempt)

    def test_no_other_thread_gets_out_either(self):
        named = ("open a file", "run a program", "make a socket", "trace", "signal")
        attempts = self.attempts(os.getpid())
        for kind in ("disk0", "kumoi-vmm", "spawner"):
            for name in named:
                with self.subTest(thread=kind, attempt=name):
                    self.try_out(kind, name, attempts[name])

    def test_what_is_refused_without_ending_the_machine(self):
        guest, pid, tids = self.machine()
        thread = Hijacked(pid, tids["vcpu0"])
        self.assertEqual(thread.ask(IO_URING_SETUP, 4, thread.put(bytes(120))), -errno.ENOSYS)
        thread.release()
        control = guest.control()
        before = self.requests(control)  # as if nothing had been
        harness.wait_until(lambda: self.requests(control) > before + 8, 10, "more requests")
        control.call("quit")
        self.assertEqual(guest.wait_exit(), 0, guest.story())


if __name__ == "__main__":
    harness.main()
