"""Two kumoi-vmm on one host and a link between them: what tests and benches of live migration are built from.

    source = harness.Guest(test, harness.micro("chain"), "mib=8")
    pair = Pair(test, source)                     # a destination, started with --incoming
    pair.begin(Link(test, "tcp", streams=2))      # journals, connections, migrate_incoming, migrate
    pair.wait("completed")                        # pair.source_status, pair.destination_status: the last words
    pair = Pair(test, pair.destination)           # and on to the next

The daemons' part is played here: sockets and journals are made by this process and passed over the control sockets
(docs/reference/vmm-control.md). Where a Link has `wires`, this process stands between the two and can delay, hold, slow and
cut what passes; `Wire.passed` counts the bytes each way.
"""
import copy
import fcntl
import os
import select
import socket
import threading
import time
import uuid

import harness

ENDS = ("completed", "failed", "cancelled", "undecided")
PIECE = 256 << 10


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, server


def make_pair(kind):
    """Two connected stream sockets: the source's end and the destination's."""
    return tcp_pair() if kind == "tcp" else socket.socketpair()


class Wire:
    """Stands between two sockets. From any thread: cut(), hold(), go_on(); `delay_s` and `bytes_per_s` may change while
    it runs. `cut_at`: (direction, byte) after which it is cut, direction 0 away from the source, 1 towards it."""

    def __init__(self, source_end, destination_end, cut_at=None, delay_s=0.0, bytes_per_s=0):
        self.ends = (source_end, destination_end)
        self.passed = [0, 0]
        self.cut_at, self.delay_s, self.bytes_per_s = cut_at, delay_s, bytes_per_s
        self.open = threading.Event()
        self.open.set()
        self.broken = threading.Event()
        self.threads = [threading.Thread(target=self._pump, args=(way,), daemon=True) for way in (0, 1)]
        for thread in self.threads:
            thread.start()

    def _pump(self, way):
        begin, end = self.ends[way], self.ends[1 - way]
        try:
            while not self.broken.is_set():
                piece = begin.recv(min(PIECE, max(4096, self.bytes_per_s // 50)) if self.bytes_per_s else PIECE)
                self.open.wait()
                if self.delay_s:
                    time.sleep(self.delay_s)
                if not piece or self.broken.is_set():
                    break
                if self.cut_at and self.cut_at[0] == way and self.passed[way] + len(piece) >= self.cut_at[1]:
                    end.sendall(piece[:self.cut_at[1] - self.passed[way]])
                    self.passed[way] = self.cut_at[1]
                    break
                end.sendall(piece)
                self.passed[way] += len(piece)
                if self.bytes_per_s:
                    time.sleep(len(piece) / self.bytes_per_s)
        except OSError:
            pass
        self.cut()

    def cut(self):
        self.broken.set()
        self.open.set()
        for end in self.ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def hold(self):
        """Nothing passes any more, and nobody is told: a peer that is silent."""
        self.open.clear()

    def go_on(self):
        self.open.set()

    def close(self):
        self.cut()
        for thread in self.threads:
            thread.join(5)
        for end in self.ends:
            end.close()


class Link:
    """A control connection and one for each of `streams`: `source` and `destination` are their ends. kind: socketpair,
    unix (the same) or tcp. With `wired` each has a Wire in its middle (Wire's keywords in `wire`)."""

    def __init__(self, test, kind="socketpair", streams=1, wired=False, **wire):
        self.source, self.destination, self.wires = [], [], []
        for _ in range(1 + streams):
            near, far = make_pair(kind)
            if wired:
                middle, other = near, far
                near, middle = make_pair(kind)
                other, far = make_pair(kind)
                self.wires.append(Wire(middle, other, **wire))
            self.source.append(near)
            self.destination.append(far)
        test.addCleanup(self.close)

    def close_ends(self):
        for end in self.source + self.destination:
            end.close()
        self.source, self.destination = [], []

    def cut(self):
        for wire in self.wires:
            wire.cut()

    def close(self):
        self.close_ends()
        for wire in self.wires:
            wire.close()


class Side:
    """One of the two processes: a harness.Guest, a control connection that has subscribed, and its journal."""

    def __init__(self, guest):
        self.guest = guest
        self.control = guest.control()
        self.control.call("subscribe")
        self.status = {}
        self.phases = []  # in order, each once in a row
        self.journal = None

    def take_events(self):
        rest = []
        for event in self.control.events:
            if event.get("event") == "migration":
                self.take(event["data"])
            else:
                rest.append(event)
        self.control.events[:] = rest

    def take(self, status):
        self.status = status
        if not self.phases or self.phases[-1] != status["phase"]:
            self.phases.append(status["phase"])

    def watch(self, seconds):
        """Reads what comes within that time; False when the process has ended."""
        ready = b"\n" in self.control.buffer or select.select([self.control.socket], [], [], max(0, seconds))[0]
        if ready:
            try:
                self.control.events.append(self.control.read_message())
            except (EOFError, ConnectionError):
                return False
        self.take_events()
        return True

    def ask_status(self):
        self.take(self.control.call("migrate_status"))
        self.take_events()
        return self.status

    def call(self, method, connections=(), journal=None, **params):
        """With sockets and, opened here, the journal as descriptors."""
        descriptors = {f"connect:migration-{index}": end.fileno() for index, end in enumerate(connections)}
        if connections:
            params["connections"] = list(descriptors)
        file = None
        if journal:
            file = os.open(journal, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the machine holds it from now on
            descriptors[journal] = file
            params["journal"] = self.journal = journal
        try:
            return self.control.call(method, fds=descriptors, **params)
        finally:
            if file is not None:
                os.close(file)


def moved_config(config, folder, disks):
    """The same machine with files of its own; `disks`: path by id where it is another."""
    moved = copy.deepcopy(config)
    moved["control_socket"] = os.path.join(folder, "control.sock")
    moved["serial"] = {"log": os.path.join(folder, "console.log"), "socket": os.path.join(folder, "console.sock")}
    for disk in moved.get("disks", []):
        disk["path"] = disks.get(disk["id"], disk["path"])
    return moved


class Pair:
    """A guest that runs and a machine that waits for it. `disks`: those that come with the stream, their path over there
    by id (the file must exist)."""

    def __init__(self, test, guest, disks=None, **members):
        self.test, self.disks = test, disks or {}
        self.id = str(uuid.uuid4())
        self.source = Side(guest)
        machine = harness.Guest(test, "", start=False)
        machine.config = moved_config({**guest.config, **members}, machine.folder, self.disks)
        machine.start("--incoming")
        self.destination = Side(machine)
        self.guests = (guest, machine)
        self.journal_folders = [guest.folder, machine.folder]

    @property
    def source_status(self):
        return self.source.status

    @property
    def destination_status(self):
        return self.destination.status

    def sides(self):
        return (self.source, self.destination)

    def journal_path(self, index):
        return os.path.join(self.journal_folders[index], f"migration-{self.id}.journal")

    def begin(self, link, epoch=1, **options):
        """Both are told; migrate answers at once, what follows comes as events. `link` is given away."""
        same = {"id": self.id, "epoch": epoch, "copied": list(self.disks)}
        self.destination.call("migrate_incoming", link.destination, self.journal_path(1), **same)
        self.begun = time.monotonic()
        self.source.call("migrate", link.source, self.journal_path(0), options=options, **same)
        link.close_ends()
        self.link = link
        return self

    def connect(self, link):
        """After a broken link."""
        self.destination.call("migrate_connect", link.destination, id=self.id)
        self.source.call("migrate_connect", link.source, id=self.id)
        link.close_ends()
        self.link = link

    def wait_phase(self, phases, seconds=60, side=None):
        """Until the source (or `side`) is or has been in one of them since begin(); the status then."""
        side = side or self.source
        phases = (phases,) if isinstance(phases, str) else phases
        deadline = time.monotonic() + seconds * harness.SLOW
        while not any(phase in side.phases for phase in phases):
            left = deadline - time.monotonic()
            if left <= 0 or not side.watch(min(left, 0.5)):
                why = "ended" if left > 0 else f"not after {seconds} s"
                raise AssertionError(f"no phase of {phases}, {why}: {side.phases} {side.status}\n{self.story()}")
        return side.status

    def wait(self, phase="completed", seconds=60):
        """To the end of the source, which must be that, and of the destination, if it lives. Seconds since begin()."""
        status = self.wait_phase(ENDS, seconds)
        took = time.monotonic() - self.begun
        if phase != self.source.phases[-1]:
            raise AssertionError(f"the source ended {status}, not {phase}\n{self.story()}")
        if phase == "completed":
            self.wait_phase("completed", seconds, self.destination)
        return took

    def quit_source(self):
        """The empty process of a guest that has gone."""
        self.source.control.ask("quit")
        return self.source.guest.wait_exit()

    def wait_destination_exit(self, seconds=30):
        return self.destination.guest.wait_exit(seconds)

    def states(self):
        """What both say to `state`; None: gone."""
        words = []
        for side in self.sides():
            try:
                words.append(side.control.call("state")["state"])
            except (EOFError, OSError):
                words.append(None)
        return tuple(words)

    def story(self):
        return "\n".join(f"=== {name} {side.phases} {side.status}\n{side.guest.story()}"
                         for name, side in zip(("source", "destination"), self.sides()))


def migrate(test, guest, kind="socketpair", streams=1, disks=None, seconds=60, **options):
    """Moves the guest with nothing in the way; returns the machine that runs it now and the pair."""
    pair = Pair(test, guest, disks)
    pair.begin(Link(test, kind, streams), **options)
    pair.wait("completed", seconds)
    pair.quit_source()
    return pair.destination.guest, pair
