"""Live migration with disks that both hosts see: never open in both, taken with their leases, and what the guest wrote is
read back on the other side."""
import os
import struct
import subprocess

import disk_jobs_test
import harness
from migration_harness import Link, Pair

ROUNDS = 12


class MigrationWithDisks(harness.Test):
    def guest(self, disks, rounds=ROUNDS):
        guest = harness.Guest(self, harness.micro("blk"), f"rounds={rounds}", disks=disks)
        guest.expect("micro: blk round=1\n", 60)
        return guest

    def verdict(self, guest):
        line = guest.expect(r"micro: blk (ok|FAIL)[^\n]*", 120)
        self.assertEqual(line.group(1), "ok", guest.story())
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def epoch(self, lease):
        """Of the record that counts (docs/reference/disk-lease.md)."""
        with open(lease, "rb") as file:
            content = file.read(4096)
        records = [struct.unpack_from("<8sIIQQ64s", content, at) for at in (0, 2048)]
        _, _, _, epoch, _, owner = max(records, key=lambda record: record[4])
        return epoch, owner.rstrip(b"\0").decode()

    def leased(self, path, owner, epoch):
        return [{"id": "root", "path": path, "lock": {"lease": path + ".lease", "epoch": epoch, "owner": owner}}]

    def move(self, guest, epoch, disks=None, outcome="completed"):
        """`disks`: as the other host's configuration has them, where that differs."""
        moved = dict(guest.config, disks=disks or guest.config["disks"])
        keep, guest.config = guest.config, moved
        try:
            pair = Pair(self, guest)
        finally:
            guest.config = keep
        pair.begin(Link(self, "tcp", 2), epoch=epoch)
        pair.wait(outcome)
        return pair

    def test_there_and_back_under_a_lease(self):
        path = self.disk(4)
        lease = path + ".lease"
        self.addCleanup(lambda: os.path.exists(lease) and os.remove(lease))
        guest = self.guest(self.leased(path, "host0", 1))
        for move in (1, 2, 3):
            self.assertEqual(self.epoch(lease), (move, f"host{move - 1}"))
            pair = self.move(guest, move, self.leased(path, f"host{move}", move))
            pair.quit_source()
            guest = pair.destination.guest
        self.assertEqual(self.epoch(lease), (4, "host3"))
        self.verdict(guest)

    def test_a_qcow2_image_with_a_backing_file(self):
        base, path = self.disk(4), self.disk(1)
        os.remove(path)
        subprocess.run([disk_jobs_test.program("kumoi-img"), "create", "-b", base, "-F", "raw", path], check=True)
        guest = self.guest([{"id": "root", "path": path, "format": "qcow2"}])
        for epoch in (1, 2):
            pair = self.move(guest, epoch)
            pair.quit_source()
            guest = pair.destination.guest
        self.verdict(guest)
        checked = subprocess.run([disk_jobs_test.program("kumoi-img"), "check", path], capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    def test_a_disk_that_is_not_there_leaves_the_guest_where_it_was(self):
        path = self.disk(4)
        guest = self.guest([{"id": "root", "path": path}])
        pair = self.move(guest, 1, [{"id": "root", "path": path + ".absent"}], "failed")
        self.assertEqual(pair.wait_destination_exit(), 1)
        self.assertEqual(guest.control().call("state")["state"], "running")
        self.verdict(guest)

    def test_an_epoch_that_is_not_the_leases_is_refused_at_once(self):
        path = self.disk(4)
        lease = path + ".lease"
        self.addCleanup(lambda: os.path.exists(lease) and os.remove(lease))
        guest = self.guest(self.leased(path, "host0", 1))
        with self.assertRaisesRegex(Exception, "epoch 1 of its lease, not 7"):
            self.move(guest, 7, self.leased(path, "host1", 7))
        self.assertEqual(self.epoch(lease), (1, "host0"))
        self.verdict(guest)


if __name__ == "__main__":
    harness.main()
