"""A guest that goes from one kumoi-vmm to a newer one on the same host: what tests and benches of live upgrade are built from.

    upgrade = Upgrade(test, guest)                # the newer process, started with --upgrade-of
    upgrade.begin(Link(test, streams=0))          # journals, the connection, upgrade_incoming, upgrade
    upgrade.wait("completed")
    guest = upgrade.newer                         # the same guest: same console, disks, network cards

The daemon's part is played here, as in migration_harness.
"""
import copy
import os
import shutil
import subprocess
import tempfile
import time
import uuid

import harness
import keeper
from migration_harness import ENDS, Side


class Newer(harness.Guest):
    """A process for a guest that has its console elsewhere. `program`: which kumoi-vmm."""

    def __init__(self, test, older, program=None, **members):
        super().__init__(test, "", start=False)
        self.program = program or harness.VMM
        self.config = {**copy.deepcopy(older.config), **members, "control_socket": self.path("control.sock")}
        self.seen = older.seen

    def run(self, *arguments):
        with open(self.path("vmm.log"), "ab") as log:
            self.process = subprocess.Popen([self.program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=keeper.end_with_me)
        self.test.addCleanup(self.kill)
        return self

    def path(self, name):
        serial = getattr(self, "config", {}).get("serial", {}) if name.startswith("console.") else {}
        return serial.get({"console.log": "log", "console.sock": "socket"}.get(name, ""), os.path.join(self.folder, name))


class Upgrade:
    def __init__(self, test, guest, program=None, **members):
        self.test, self.older = test, guest
        self.id = str(uuid.uuid4())
        self.source = Side(guest)
        self.newer = Newer(test, guest, program, **members)
        self.newer.start("--upgrade-of", guest.config["control_socket"])
        # In memory, as the daemon has them: both processes die with this host, so nothing need outlive it.
        self.journals = tempfile.mkdtemp(prefix="kumoi-it-", dir="/dev/shm")
        test.addCleanup(shutil.rmtree, self.journals, True)
        self.destination = None

    def sides(self):
        return (self.source, self.destination)

    def prepare(self):
        """Until the newer process listens; raises when it has ended instead."""
        self.destination = Side(self.newer)
        return self

    def begin(self, link, epoch=1):
        if self.destination is None:
            self.prepare()
        self.epoch = epoch
        self.invite(link)
        self.go(link)
        return self

    def invite(self, link):
        self.link = link
        self.destination.call("upgrade_incoming", link.destination, self.journals + "/newer",
                              **self.same())

    def go(self, link):
        self.begun = time.monotonic()
        self.source.call("upgrade", link.source, self.journals + "/older",
                         **self.same())
        link.close_ends()

    def same(self):
        return {"id": self.id, "epoch": getattr(self, "epoch", 1)}

    def wait(self, phase="completed", seconds=30):
        """To the end of the source, which must be that; the last status of it."""
        deadline = time.monotonic() + seconds * harness.SLOW
        while not any(end in self.source.phases for end in ENDS):
            if time.monotonic() > deadline or not self.source.watch(0.5):
                break
        if phase not in self.source.phases:
            raise AssertionError(f"the older process ended {self.source.phases}, not {phase}: {self.source.status}\n{self.story()}")
        return self.source.status

    def story(self):
        return "\n".join(f"=== {name}\n{guest.story()}" for name, guest in (("older", self.older), ("newer", self.newer)))


def upgrade(test, guest, link, program=None, epoch=1):
    """With nothing in the way: the process that runs it now and the older one's last words."""
    one = Upgrade(test, guest, program)
    one.begin(link, epoch)
    status = one.wait()
    if guest.wait_exit() != 0:
        raise AssertionError(f"the older process ended badly\n{one.story()}")
    return one.newer, status


def another_program(test, folder):
    """A kumoi-vmm of another path: what an installed newer one is to those that run."""
    path = os.path.join(folder, "kumoi-vmm-newer")
    shutil.copy(harness.VMM, path)
    test.addCleanup(lambda: os.path.exists(path) and os.remove(path))
    return path
