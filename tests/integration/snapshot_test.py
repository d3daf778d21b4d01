"""Guests are saved, stopped or running, and go on from the file: with all memory read first or on demand."""
import json
import os
import re
import shutil
import subprocess
import tempfile

import harness
import linux_test

CHAIN = "mib=4 rounds=30"
ROUND = r"micro: chain round=(\d+) hash=\w+ ticks=(\d+)"
VERDICT = r"micro: chain (ok|FAIL)[^\n]*"


class Restored(harness.Guest):
    """A kumoi-vmm that starts from a snapshot, with its own files and, if asked, its own configuration."""

    def __init__(self, test, snapshot, memory="demand", **members):
        super().__init__(test, "", start=False, **members)
        self.snapshot = snapshot
        self.memory = memory

    def start_from(self, config):
        config = {**config, **{key: self.config[key] for key in ("serial", "control_socket")}}
        with open(self.path("guest.json"), "w") as file:
            json.dump(config, file)
        with open(self.path("vmm.log"), "ab") as log:
            self.process = subprocess.Popen(
                [harness.VMM, "--restore", self.snapshot, "--restore-memory", self.memory,
                 "--config", self.path("guest.json")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=harness.keeper.end_with_me)
        self.test.addCleanup(self.kill)
        return self


class Snapshot(harness.Test):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="kumoi-it-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.file = os.path.join(self.folder, "guest.snapshot")

    def chain(self, cmdline=CHAIN, **members):
        guest = harness.Guest(self, harness.micro("chain"), cmdline, **members)
        guest.expect(r"round=2 ", 60)
        return guest

    def save(self, guest, **params):
        control = guest.control()
        control.call("subscribe")
        control.save(self.file, **params)
        event = control.wait_event("save_done")
        self.assertTrue(os.path.exists(self.file))
        return control, event["data"]

    def restore(self, guest, memory="demand"):
        return Restored(self, self.file, memory).start_from(guest.config)

    def run_to_the_end(self, guest):
        first = guest.expect(ROUND, 60)
        self.assertEqual(guest.expect(VERDICT, 120).group(1), "ok", guest.story())
        rounds = [int(found.group(1)) for found in re.finditer(ROUND, guest.output())]  # whole lines
        self.assertEqual(rounds[:1], [int(first.group(1))])
        self.assertGreater(rounds[0], 2)  # it did not begin again
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_suspended_guest_goes_on(self):
        for memory in ("all", "demand"):
            with self.subTest(memory=memory):
                guest = self.chain()
                ticks = int(guest.expect(ROUND).group(2))
                _, data = self.save(guest, after="quit")
                self.assertEqual(guest.wait_exit(), 0)
                self.assertLess(data["bytes_written"], 12 << 20)  # of a guest of 64 MiB
                again = self.restore(guest, memory)
                self.assertGreaterEqual(int(again.expect(ROUND, 60).group(2)), ticks)
                again.seen = 0
                self.run_to_the_end(again)

    def test_compressed_snapshot_goes_on_and_is_smaller(self):
        guest = self.chain(CHAIN, vcpus=2)
        _, data = self.save(guest, after="quit", compress=True)
        self.assertEqual(guest.wait_exit(), 0)
        self.assertLess(data["bytes_written"], 4 << 20)
        self.run_to_the_end(self.restore(guest))

    def test_running_guest_is_saved_and_both_go_on(self):
        guest = self.chain()
        control, data = self.save(guest, mode="live")
        self.assertEqual(control.call("state")["state"], "running")
        self.assertGreater(data["stopped_ns"], 0)
        copies = [self.restore(guest) for _ in range(2)]  # two clones of one file
        for copy in copies:
            self.run_to_the_end(copy)
        self.assertEqual(guest.expect(VERDICT, 120).group(1), "ok", guest.story())

    def test_many_live_saves_of_a_writing_guest(self):
        guest = self.chain("mib=16 rounds=0", memory_mib=96)
        control = guest.control()
        control.call("subscribe")
        for count in range(5):
            control.save(self.file, mode="live")
            event = control.wait_event("save_done")
            self.assertEqual(event["data"]["blocks_done"], event["data"]["blocks"])
        guest.expect(ROUND, 60)
        copy = self.restore(guest)
        copy.expect(ROUND, 60)
        copy.expect(ROUND, 60)
        self.assertNotIn("FAIL", copy.output())

    def test_failed_save_leaves_the_guest_running_and_no_file(self):
        guest = self.chain()
        control = guest.control()
        control.call("subscribe")
        self.assertIn("error", control.ask("save", path="/nonexistent/guest.snapshot"))
        harness.need_root()
        small = os.path.join(self.folder, "small")
        os.mkdir(small)
        harness.run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small)
        self.addCleanup(harness.run, "umount", small)
        for mode in ("stop", "live"):
            control.save(small + "/guest.snapshot", mode=mode)
            data = control.wait_event("save_failed")["data"]
            self.assertEqual(data["error"]["code"], "exhausted")
            self.assertEqual(os.path.getsize(small + "/guest.snapshot"), 0)
            self.assertEqual(control.call("state")["state"], "running")
        self.assertEqual(guest.expect(VERDICT, 120).group(1), "ok", guest.story())

    def test_damaged_files_are_refused(self):
        guest = self.chain()
        self.save(guest, after="quit")
        guest.wait_exit()
        with open(self.file, "rb") as file:
            good = file.read()

        def refused(content, reason, memory="all"):
            with open(self.file, "wb") as file:
                file.write(content)
            again = self.restore(guest, memory)
            self.assertEqual(again.wait_exit(), 1)
            self.assertRegex(again.story(), reason)

        refused(good[:-1], "never finished")
        refused(good[:100], "not a snapshot")
        refused(b"x" + good[1:], "not a snapshot")
        page = (2 << 20) + 0x1000000  # the chain's first page
        damaged = bytearray(good)
        damaged[page] ^= 1
        refused(bytes(damaged), "checksum of guest memory at 0x1000000 is wrong")
        again = self.restore(guest, "demand")  # on demand it runs until it needs that page
        control = again.control()
        control.call("subscribe")
        harness.wait_until(lambda: control.call("state")["state"] != "running", 30, "a pause")
        again.check_alive()
        self.assertRegex(again.story(), "checksum of guest memory")

    def test_another_machine_is_refused_with_all_reasons(self):
        guest = self.chain()
        self.save(guest, after="quit")
        guest.wait_exit()
        guest.config.update({"vcpus": 2, "disks": [{"id": "d0", "path": self.disk(1)}]})
        again = self.restore(guest)
        self.assertEqual(again.wait_exit(), 1)
        self.assertRegex(again.story(), "1 vCPUs, this machine 2")
        self.assertRegex(again.story(), "this machine has device d0 at PCI")


class LinuxSnapshot(linux_test.Linux):
    """A Linux with a disk it writes to and a card it got an address for, through a suspend to file."""

    @classmethod
    def setUpClass(cls):
        if shutil.which("dnsmasq") is None:
            harness.skip("no dnsmasq: install dnsmasq-base")
        harness.private_network()
        harness.make_tap("tap0", "10.77.0.1/24")

    def test_disk_writer_and_network_go_on(self):
        self.background("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--interface=tap0", "--port=0",
                        "--bind-interfaces", "--leasefile-ro", "--dhcp-authoritative", "--no-ping",
                        "--dhcp-range=10.77.0.10,10.77.0.10,255.255.255.0,1h")
        root = self.root()
        guest = harness.Guest(self, harness.linux("vmlinux"), linux_test.ROOT + " kumoi.test=heartbeat",
                              disks=[root], nics=[{"id": "net0", "tap": "tap0", "mac": "52:54:00:4b:00:01"}])
        guest.expect("kumoi-tiny: eth0 10.77.0.10/24 by DHCP", linux_test.BOOT_SECONDS)
        guest.expect("kumoi-tiny: ready", 60)
        console = guest.console()
        console.sendall(b"i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i >> /root/lines; sync; "
                        b"echo wro''te-$i; done; poweroff\n")
        harness.read_until(console, b"wrote-5", 120)
        file = guest.path("guest.snapshot")
        control = guest.control()
        control.call("subscribe")
        control.save(file, after="quit")
        control.wait_event("save_done")
        self.assertEqual(guest.wait_exit(), 0, guest.story())
        again = Restored(self, file).start_from(guest.config)
        again.expect(r"wrote-\d+", 60)
        again.expect(r"heartbeat \d+", 60)
        if shutil.which("ping"):
            harness.run("ping", "-c", "2", "-W", "5", "10.77.0.10")
        again.expect("wrote-30", 120)
        self.assertEqual(again.wait_exit(60), 0, again.story())
        harness.run("e2fsck", "-fn", root["path"])
        lines = harness.run("debugfs", "-R", "cat /root/lines", root["path"])
        self.assertEqual(lines, "".join(f"line {i}\n" for i in range(1, 31)))


if __name__ == "__main__":
    harness.main()
