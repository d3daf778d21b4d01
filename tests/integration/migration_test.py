"""Live migration between two kumoi-vmm: the guest goes on where it stood, whatever happens on the way, and exactly once."""
import os
import re
import shutil
import signal
import tempfile

import harness
from migration_harness import Link, Pair, migrate

# Its verdict says that no page, register or clock was lost or repeated.
CHAIN = "mib=8 rounds={rounds}"


class Migration(harness.Test):
    def chain(self, rounds, **members):
        guest = harness.Guest(self, harness.micro("chain"), CHAIN.format(rounds=rounds), **members)
        guest.expect("micro: chain round=2 ", 60)
        return guest

    def verdict(self, guest, seconds=120):
        line = guest.expect(r"micro: chain (ok|FAIL)[^\n]*", seconds)
        self.assertEqual(line.group(1), "ok", guest.story())
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_there_and_back_again(self):
        guest = self.chain(60)
        for number, (kind, streams) in enumerate((("socketpair", 1), ("tcp", 2), ("tcp", 4), ("socketpair", 3))):
            guest, pair = migrate(self, guest, kind, streams)
            self.assertEqual(pair.source_status["handover"], "Released")
            self.assertGreater(pair.source_status["downtime_ns"], 0)
            self.assertEqual(guest.control().call("state")["state"], "running", number)
        self.verdict(guest)

    def test_zstd(self):
        guest = self.chain(40)
        guest, pair = migrate(self, guest, "tcp", 2, compress="zstd", bandwidth_bytes_s=64 << 20)  # so slow that it pays
        self.assertLess(pair.source_status["memory"]["sent"], pair.source_status["memory"]["pages"] * 4096 / 2)
        self.verdict(guest)

    def test_what_is_written_again_goes_as_a_delta(self):
        # In the first round the guest comes around; what it writes after that has been sent twice.
        guest = harness.Guest(self, harness.micro("chain"), "mib=8 fill=24 rounds=70")
        guest.expect("micro: chain round=1 ", 60)
        guest, pair = migrate(self, guest, "tcp", 2, compress="delta", bandwidth_bytes_s=16 << 20, downtime_ms=20,
                              auto_converge=False)
        memory = pair.source_status["memory"]
        self.assertGreater(memory["delta_pages"], 100)
        whole = memory["pages"] - memory["delta_pages"] - memory["unchanged_pages"]
        self.assertLess(memory["sent"], whole * 4096 + memory["delta_pages"] * 64 + (1 << 20))
        self.verdict(guest)

    def test_free_pages_are_not_sent(self):
        # At this pace what is free is told before the sender comes there.
        guest = harness.Guest(self, harness.micro("balloon"), "hints", balloon={})
        guest.expect("micro: balloon waits", 60)
        guest, pair = migrate(self, guest, bandwidth_bytes_s=32 << 20)
        memory = pair.source_status["memory"]
        self.assertGreater(memory["free_pages"], 1000)
        self.assertLess(memory["sent"], (16 << 20) - memory["free_pages"] * 4096 + (1 << 20))
        line = guest.expect(r"micro: balloon (ok empty=(\d+)|FAIL[^\n]*)", 60)
        self.assertGreaterEqual(int(line.group(2) or 0), memory["free_pages"] - 15, guest.story())
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_the_dirty_ring(self):
        guest = self.chain(40, dirty_tracking="ring")
        guest, _ = migrate(self, guest, "tcp", 2)
        guest, _ = migrate(self, guest)
        self.verdict(guest)

    def test_where_it_is_known_who_writes_the_writer_is_held(self):
        guest = self.chain(120, dirty_tracking="ring")
        pair = Pair(self, guest)
        pair.begin(Link(self), bandwidth_bytes_s=16 << 20, downtime_ms=20, dirty_limit_bytes_s=6 << 20)
        while not pair.source_status.get("dirty_limit_bytes_s"):
            self.assertTrue(pair.source.watch(10), pair.story())
            self.assertNotIn(pair.source.phases[-1:], (["completed"], ["failed"]), pair.story())
        self.assertLessEqual(pair.source_status["dirty_limit_bytes_s"], 6 << 20)
        self.assertEqual(pair.source_status["throttle_percent"], 0)
        pair.source.call("migrate_cancel")
        pair.wait("cancelled")
        self.assertGreater(pair.source_status["vcpu_lost_ms"], 0)
        self.verdict(guest)

    def test_limits_want_a_ring(self):
        guest = self.chain(3, dirty_tracking="bitmap")
        with self.assertRaisesRegex(Exception, "which vCPU writes is not known"):
            Pair(self, guest).begin(Link(self), dirty_limit_bytes_s=1 << 20)
        self.verdict(guest)

    def test_a_paused_guest_arrives_paused(self):
        guest = self.chain(40)
        guest.control().call("pause")
        guest, pair = migrate(self, guest)
        self.assertEqual(pair.states()[1], "paused")
        guest.control().call("resume")
        self.verdict(guest)

    def test_another_machine_is_refused_with_every_reason(self):
        guest = self.chain(40)
        pair = Pair(self, guest, memory_mib=96, vcpus=2)
        pair.begin(Link(self))
        pair.wait("failed")
        text = pair.source_status["error"]["message"]
        self.assertIn("vCPUs", text)
        self.assertIn("MiB of memory", text)
        self.assertEqual(pair.wait_destination_exit(), 1)
        self.assertEqual(pair.source_status["memory"]["sent"], 0)
        self.verdict(guest)

    def test_a_forecast(self):
        guest = self.chain(200)
        control = guest.control()
        control.call("subscribe")
        for bandwidth, converges in ((1 << 30, True), (1 << 20, False)):
            control.call("migrate_forecast", bandwidth_bytes_s=bandwidth, throttle_max_percent=0, sample_ms=100)
            told = control.wait_event("migration_forecast")["data"]
            self.assertEqual(told["converges"], converges, told)
            self.assertGreaterEqual(told["written_twice_bytes"], told["written_once_bytes"])
            self.assertGreater(told["written_once_bytes"], 1 << 20)
        self.assertIn("will not converge", told["verdict"])
        guest, _ = migrate(self, guest)
        self.verdict(guest)

    def test_cancelled_while_copying(self):
        guest = self.chain(60)
        pair = Pair(self, guest).begin(Link(self, "tcp", 2), bandwidth_bytes_s=2 << 20)
        pair.wait_phase("copying")
        pair.source.control.call("migrate_cancel")
        pair.wait("cancelled")
        self.assertEqual(pair.wait_destination_exit(), 1)
        guest, _ = migrate(self, guest)  # and it can still be migrated
        self.verdict(guest)

    def test_forced_although_it_never_converges(self):
        guest = self.chain(60)
        pair = Pair(self, guest).begin(Link(self, "tcp", 2), bandwidth_bytes_s=4 << 20, downtime_ms=1,
                                       auto_converge=False)
        pair.wait_phase("copying")
        pair.source.control.call("migrate_force", how="pause")
        pair.wait("completed")
        pair.quit_source()
        self.verdict(pair.destination.guest)

    def test_the_destination_dies_while_copying(self):
        guest = self.chain(60)
        pair = Pair(self, guest).begin(Link(self, "tcp", 2), bandwidth_bytes_s=2 << 20)
        pair.wait_phase("copying")
        pair.destination.guest.process.send_signal(signal.SIGKILL)
        pair.wait("failed")
        self.assertEqual(pair.source.control.call("state")["state"], "running")
        self.verdict(guest)

    def test_the_connection_breaks_while_copying(self):
        guest = self.chain(60)
        link = Link(self, "tcp", 2, wired=True, cut_at=(0, 3 << 20))
        pair = Pair(self, guest).begin(link)
        pair.wait("failed")
        self.assertEqual(pair.wait_destination_exit(), 1)
        self.verdict(guest)

    def test_silence_is_noticed_within_two_seconds(self):
        guest = self.chain(300)  # it must still run when two seconds are over
        link = Link(self, "tcp", 2, wired=True)
        pair = Pair(self, guest).begin(link, bandwidth_bytes_s=2 << 20)
        pair.wait_phase("copying")
        for wire in link.wires:
            wire.hold()
        pair.wait("failed", 20)
        self.assertIn("not been heard of", pair.source_status["error"]["message"])
        link.cut()
        self.verdict(guest)

    def test_nothing_else_changes_the_machine_meanwhile(self):
        guest = self.chain(60)
        pair = Pair(self, guest).begin(Link(self, "tcp", 2), bandwidth_bytes_s=2 << 20)
        pair.wait_phase("copying")
        for method in ("pause", "reset", "save", "add_disk", "set_vcpus"):
            answer = pair.source.control.ask(method)
            self.assertEqual(answer["error"]["code"], "conflict", (method, answer))
        for method in ("start", "resume", "reset"):
            answer = pair.destination.control.ask(method)
            self.assertEqual(answer["error"]["code"], "conflict", (method, answer))
        pair.source.control.call("migrate_cancel")
        pair.wait("cancelled")
        self.verdict(guest)

    def test_post_copy(self):
        guest = self.chain(300)
        for streams in (1, 2, 4):
            pair = Pair(self, guest).begin(Link(self, "tcp", streams), bandwidth_bytes_s=4 << 20, post_copy="allowed",
                                           auto_converge=False, downtime_ms=1)
            pair.wait_phase("copying")
            pair.source.control.call("migrate_force", how="post_copy")
            pair.wait("completed")
            self.assertIn("post_copy", pair.source.phases)
            pair.quit_source()
            guest = pair.destination.guest
        self.verdict(guest)

    def test_post_copy_survives_a_broken_connection(self):
        guest = self.chain(60)
        link = Link(self, "tcp", 2, wired=True, bytes_per_s=6 << 20)
        pair = Pair(self, guest).begin(link, post_copy="automatic", throttle_max_percent=0, downtime_ms=1)
        pair.wait_phase("post_copy")
        link.cut()
        pair.connect(Link(self, "tcp", 2))
        pair.wait("completed")
        pair.quit_source()
        self.verdict(pair.destination.guest)

    def test_the_source_never_wakes_again(self):
        guest = self.chain(60)
        pair = Pair(self, guest).begin(Link(self))
        pair.wait("completed")
        for method in ("resume", "start", "reset"):
            answer = pair.source.control.ask(method)
            self.assertEqual(answer["error"]["code"], "conflict", (method, answer))
        self.assertEqual(pair.states(), ("moved", "running"))
        rounds = len(re.findall("round=", guest.output()))
        self.verdict(pair.destination.guest)
        self.assertEqual(len(re.findall("round=", guest.output())), rounds)


class CopiedDisks(harness.Test):
    """Disks without a place that both sides see come with the guest, in the same rounds."""

    def waves(self, disk, image_format):
        guest = harness.Guest(self, harness.micro("waves"), "waves=40",
                              disks=[{"id": "data", "path": disk, "format": image_format}])
        guest.expect("micro: waves 2", 60)
        return guest

    def image(self, image_format, mib=8):
        path = os.path.join(self.folder, f"{len(os.listdir(self.folder))}.{image_format}")
        if image_format == "raw":
            with open(path, "wb") as file:
                file.truncate(mib << 20)
        else:
            harness.run(self.kumoi_img(), "create", path, f"{mib}M")
        return path

    def kumoi_img(self):
        return os.path.join(os.path.dirname(harness.VMM), "kumoi-img")

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="kumoi-it-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def move(self, image_format):
        guest = self.waves(self.image(image_format), image_format)
        for streams in (1, 3):
            guest, pair = migrate(self, guest, "tcp", streams, disks={"data": self.image(image_format)})
            self.assertGreater(pair.source_status["disks"]["total"], 0)
        self.assertEqual(guest.expect("micro: waves (ok|FAIL)", 200).group(1), "ok", guest.story())
        self.assertEqual(guest.wait_exit(), 0, guest.story())
        # The last wave is whole: every sector of the disk has its stamp.
        path = guest.config["disks"][0]["path"]
        if image_format != "raw":
            path, image = os.path.join(self.folder, "flat"), path
            harness.run(self.kumoi_img(), "convert", "-O", "raw", image, path)
        with open(path, "rb") as file:
            content = file.read()
        stamps = {content[at:at + 8] for at in range(0, len(content), 512)}
        self.assertEqual(stamps, {(40).to_bytes(8, "little")})

    def test_raw(self):
        self.move("raw")

    def test_qcow2(self):
        self.move("qcow2")


if __name__ == "__main__":
    harness.main()
