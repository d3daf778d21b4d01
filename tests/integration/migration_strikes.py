"""What goes wrong in the runs of migration_faults.py, one Fault each. The ones inside a process are strace's: it kills the machine
at the entry of a system call of chance, or has a call of the journal's fail, wait, or lie. A call that fails or lies is replaced
by getpid(2), because the sandbox would kill the process for the number -1 (docs/reference/sandbox.md)."""
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time

import harness
from migration_agents import DeadJournal
from migration_harness import ENDS

RECORD = 512
MARKS = (1, 2, 2, 2, 2, 3)  # of a journal, that something happens at: the second decides
# Of the loop's thread and the streams', without those that a guest's console makes many of.
WORDS = "sendmsg,recvmsg,pwrite64,pwritev,pread64,preadv,readv,writev,fdatasync,fcntl,sendto,epoll_ctl,shutdown,poll,futex,lseek,close"


class Fault:
    """None. `where`: what there is to report of it."""

    def __init__(self, run, side=None):
        self.run, self.chance, self.where = run, run.chance, {}
        self.source = side == "source"
        self.reached = False

    @property
    def side(self):
        return self.run.pair.source if self.source else self.run.pair.destination

    copied = False  # needs a disk that comes along
    lies = False    # a disk says what is not so

    def copied_folder(self):
        """Where a disk that comes along goes to; None: anywhere."""

    def wire(self):
        """For the Link."""
        return {}

    def prepare(self):
        """Both processes are there, nothing has begun."""

    def strike(self):
        """It has begun."""

    def after(self):
        """Before the agents look: what a power cut has left."""

    def end(self):
        """It is decided."""

    def pause(self):
        time.sleep(self.chance.choice((0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4)) * self.chance.uniform(0.5, 1.5))


class Kill(Fault):
    def strike(self):
        self.pause()
        self.side.guest.process.send_signal(signal.SIGKILL)
        self.side.guest.process.wait()


class Stop(Fault):
    def strike(self):
        self.pause()
        machine = machine_of(self.side.guest)
        if machine:
            try:
                os.kill(machine, signal.SIGSTOP)
                time.sleep(self.chance.choice((0.3, 1.0, 2.6)))
                os.kill(machine, signal.SIGCONT)
            except ProcessLookupError:
                pass


class Cut(Fault):
    """Each connection, at a byte."""

    def wire(self):
        self.where["byte"] = (self.chance.randrange(2), int(10 ** self.chance.uniform(1, 6.7)))
        return {"cut_at": self.where["byte"]}


class CutAll(Fault):
    def strike(self):
        self.pause()
        self.run.link.cut()


class Silence(Fault):
    def strike(self):
        self.pause()
        for wire in self.run.link.wires:
            wire.hold()
        time.sleep(self.chance.choice((0.5, 2.5)))
        for wire in self.run.link.wires:
            wire.go_on()


class Slow(Fault):
    def wire(self):
        self.where["bytes_per_s"] = int(10 ** self.chance.uniform(5.5, 7.5))
        return self.where


class Late(Fault):
    """Every piece comes late, by another time on each connection's two ways."""

    def wire(self):
        self.where["delay_s"] = round(10 ** self.chance.uniform(-3, -1.3), 4)
        return self.where


class Cancel(Fault):
    def strike(self):
        self.pause()
        try:
            self.run.pair.source.control.ask("migrate_cancel")
        except (EOFError, OSError):
            pass


class Reconnect(Fault):
    """What was on its way is held back while both get new connections, once or more, and comes after what the new ones bring.
    Everything is late, so that the handover has begun and not ended."""

    def wire(self):
        self.where["delay_s"] = self.chance.choice((0.01, 0.03, 0.06))
        return self.where

    def strike(self):
        deadline = time.monotonic() + 2
        while not self.begun() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(self.chance.uniform(0, 4 * self.where["delay_s"]))
        self.where["state"] = [side.status.get("handover") for side in self.run.pair.sides()]
        held = []
        for _ in range(self.chance.choice((1, 1, 2, 3))):
            link = self.run.agents.link
            for wire in link.wires:
                wire.hold()
            held.append(link)
            self.run.agents.reconnect(wired=True)
            time.sleep(self.chance.choice((0, 0.01, 0.1)))
        for link in held:
            for wire in link.wires:
                wire.go_on()

    def begun(self):
        near = self.run.agents.status(self.run.pair.source)
        self.run.agents.status(self.run.pair.destination)
        return near is None or near["handover"] != "Copying"


class JournalFolderFull(Fault):
    """The journal does not fit: refused before anything has begun."""

    def prepare(self):
        self.run.pair.journal_folders[0 if self.source else 1] = small_file_system(self.run.test, "4k")


class ImageFull(Fault):
    """A disk that comes along is on a file system that gets full."""
    copied = True

    def copied_folder(self):
        return small_file_system(self.run.test, "512k")


class Traced(Fault):
    """Under strace, with what `injection()` says."""
    only_journal = True

    def injection(self):
        raise NotImplementedError

    def prepare(self):
        machine = machine_of(self.side.guest)
        rule = self.where["inject"] = self.injection()
        command = ["strace", "-f", "-p", str(machine), "-o", self.run.trace, "-e", "trace=" + rule.split(":")[0], "-e", "inject=" + rule]
        if self.only_journal:
            command += ["-P", self.run.pair.journal_path(0 if self.source else 1)]
        self.tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                       preexec_fn=harness.keeper.end_with_me)
        self.run.test.addCleanup(self.end)
        self.tracer.stderr.readline()  # "attached": from now on it sees everything

    def end(self):
        if self.tracer.poll() is None:
            self.tracer.kill()  # asked kindly it waits for threads that wait for others; the kernel lets them go
        self.tracer.wait()
        self.tracer.stderr.close()
        if os.path.exists(self.run.trace):
            with open(self.run.trace, errors="replace") as file:
                self.reached = any("(INJECTED)" in line or "(DELAYED)" in line or "SIGKILL" in line for line in file)
        self.where["reached"] = self.reached


class KilledAtWord(Traced):
    only_journal = False

    def injection(self):
        return f"{WORDS}:signal=SIGKILL:when={int(10 ** self.chance.uniform(0, 2))}"


class KilledAtCall(Traced):
    """Any call at all."""
    only_journal = False

    def injection(self):
        return f"all:signal=SIGKILL:when={int(10 ** self.chance.uniform(0, 3.2))}"


class KilledAtJournal(Traced):
    def injection(self):
        call = self.chance.choice(("pwrite64", "fdatasync"))
        return f"{call}:signal=SIGKILL:when={self.chance.choice(MARKS) + (call == 'pwrite64')}"


class JournalFails(Traced):
    """Once, or from then on for ever."""

    def injection(self):
        call, error = self.chance.choice((("pwrite64", "ENOSPC"), ("pwrite64", "EIO"), ("fdatasync", "EIO"), ("fdatasync", "ENOSPC")))
        first = self.chance.choice(MARKS) + (call == "pwrite64")
        return f"{call}:error={error}:syscall=getpid:when={first}{self.chance.choice(('', '+'))}"


class JournalSlow(Traced):
    def injection(self):
        return f"fdatasync:delay_enter={int(10 ** self.chance.uniform(4, 6.4))}"


class PowerCut(Traced):
    """The host goes while it syncs: what was written is there, or not, or half of it."""

    def injection(self):
        self.record = self.chance.choice(MARKS[1:]) - 1
        return f"fdatasync:signal=SIGKILL:when={self.record + 1}"

    def strike(self):
        """Until it has gone, or has no more to sync."""
        deadline = time.monotonic() + 10
        while self.side.guest.process.poll() is None and time.monotonic() < deadline:
            status = self.run.agents.status(self.run.pair.source)
            if status is None or status["phase"] in ENDS:
                time.sleep(0.2)
                break
            time.sleep(0.005)

    def after(self):
        self.where["left"] = self.chance.choice(("all", "nothing", "half"))
        forget(self.run, self.side, self.record, self.where["left"])


class SyncLost(Traced):
    """The disk says that it synced and has not; then the host goes."""
    lies = True

    def injection(self):
        self.record = self.chance.choice(MARKS[1:]) - 1
        return f"fdatasync:retval=0:syscall=getpid:when={self.record + 1}"

    def strike(self):
        """As soon as it has lied, or a moment later."""
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline and self.side.guest.process.poll() is None:
            with open(self.run.trace, errors="replace") as file:
                if "(INJECTED)" in file.read():
                    break
            time.sleep(0.002)
        time.sleep(self.chance.choice((0, 0, 0.003, 0.02, 0.1)))
        self.side.guest.process.send_signal(signal.SIGKILL)
        self.side.guest.process.wait()

    def after(self):
        self.where["left"] = "nothing"
        forget(self.run, self.side, self.record, "nothing")


def machine_of(guest):
    """The process behind the launcher (docs/reference/sandbox.md)."""
    launcher = guest.process.pid
    try:
        for task in os.listdir(f"/proc/{launcher}/task"):
            with open(f"/proc/{launcher}/task/{task}/children") as file:
                for child in file.read().split():
                    return int(child)
    except FileNotFoundError:
        pass
    return None


def forget(run, side, record, left):
    """Takes from the journal of a dead process what its disk did not keep."""
    if side.guest.process.poll() is None or side.journal is None:
        return  # it was not killed: the call never came

    def lock():
        try:
            return DeadJournal(side.journal)
        except BlockingIOError:
            return None
    journal = harness.wait_until(lock, 20, "the dead machine's journal")
    run.record_lost = len(journal.records) > record and journal.name_of(record)
    begin = {"all": RECORD, "half": RECORD // 2, "nothing": 0}[left]
    os.pwrite(journal.file, bytes(RECORD - begin), record * RECORD + begin)
    journal.close()


def private_mounts():
    """What is mounted from now on is seen by this process and its children alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newns, ms_rec, ms_private = 0x00020000, 0x4000, 1 << 18
    return libc.unshare(clone_newns) == 0 and libc.mount(b"none", b"/", None, ms_rec | ms_private, None) == 0


def small_file_system(test, size):
    folder = tempfile.mkdtemp(prefix="kumoi-small-")
    harness.run("mount", "-t", "tmpfs", "-o", f"size={size}", "kumoi-small", folder)

    def remove():
        subprocess.run(["umount", "-l", folder], check=False)
        shutil.rmtree(folder, True)
    test.addCleanup(remove)
    return folder


BOTH = {"kill": Kill, "stop": Stop, "killed at a word": KilledAtWord, "killed at a call": KilledAtCall,
        "killed at its journal": KilledAtJournal, "journal fails": JournalFails, "journal slow": JournalSlow, "power cut": PowerCut,
        "sync lost": SyncLost, "journal's folder full": JournalFolderFull}
LINK = {"cut": Cut, "cut all": CutAll, "silence": Silence, "slow": Slow, "late": Late, "cancel": Cancel, "reconnect": Reconnect,
        "image full": ImageFull, "none": Fault}
FAULTS = tuple(LINK) + tuple(f"{name}, {side}" for name in BOTH for side in ("source", "destination"))


def make(name, run):
    if name in LINK:
        return LINK[name](run)
    kind, side = name.rsplit(", ", 1)
    return BOTH[kind](run, side)
