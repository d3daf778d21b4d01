"""Guests that attack every device at once or do one thing for ever: kumoi-vmm lives, answers, says little, stays small."""
import os
import socket
import tempfile
import time

import harness

GROWTH_MAX = 24 << 20  # bytes of kumoi-vmm beside the guest's RAM
ROOT = os.geteuid() == 0  # without: no card, which needs a TAP
FLASH_SIZE = 64 << 10
LOG_MAX = 80           # lines, of a storm of thousands
EVERY_DEVICE = {"console": {}, "balloon": {}, "watchdog": {"action": "none"}, "display": {},
                "memory_max_mib": 256}


class Hostile(harness.Test):
    @classmethod
    def setUpClass(cls):
        if ROOT:
            harness.private_network()
            harness.make_tap("tap0", "10.78.0.1/24")

    def size(self, guest, control):
        """Bytes of the machine's process that are not the guest's RAM."""
        with open(f"/proc/{control.call('hello')['pid']}/status") as file:
            kib = {line.split()[0]: line.split()[1] for line in file if "RssAnon" in line}
        return int(kib["RssAnon:"]) * 1024

    def disks(self):
        return [{"id": f"d{i}", "path": self.disk(4)} for i in range(2)]

    def log_lines(self, guest):
        with open(guest.path("vmm.log"), errors="replace") as file:
            return file.read().splitlines()

    def garbage(self, seed, **members):
        guest = harness.Guest(self, harness.micro("garbage"), f"seed={seed}", name="garbage",
                              disks=self.disks(), **{**EVERY_DEVICE, "on_crash": "continue", **members})
        guest.expect("garbage begins")
        control = guest.control()
        console = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(console.close)
        console.connect(members["console"]["socket"])
        console.setblocking(False)
        told = b""
        before = self.size(guest, control)
        verdict = r"micro: garbage ok places=(\d+) attacks=(\d+) served=(\d+)"
        answers = 0
        deadline = time.monotonic() + 150 * harness.SLOW
        while "micro: garbage ok" not in guest.output():
            guest.check_alive()
            self.assertNotIn("FAIL", guest.output())
            self.assertLess(time.monotonic(), deadline, guest.story())
            try:
                control.call("statistics")
                answers += 1
                told += self.bytes_there(console)
                after = self.size(guest, control)
            except (EOFError, BrokenPipeError):
                break  # it has powered off
            time.sleep(0.1)
        found = guest.expect(verdict, 5)
        self.assertGreater(int(found.group(1)), 35, "devices are missing")
        self.assertGreater(int(found.group(2)), 150)
        self.assertEqual(int(found.group(3)), 6 if ROOT else 5,
                         "two disks, card, console, rng, SCSI controller")
        self.assertIn(b"micro: the console serves", told + self.bytes_there(console))
        self.assertEqual(guest.wait_exit(), 0, guest.story())
        self.assertGreater(answers, 3)
        self.assertLess(after - before, GROWTH_MAX)
        self.assertLess(len(self.log_lines(guest)), 400)

    def test_garbage_for_every_device(self):
        self.garbage(1, vsock={"cid": 42, "socket": os.path.join(self.folder(), "vsock")},
                     console={"socket": os.path.join(self.folder(), "console")},
                     nics=[{"id": "net0", "tap": "tap0", "mac": "52:54:00:4b:00:02"}] if ROOT else [],
                     cdroms=[{"id": "cd", "path": self.disk(1)}])

    def bytes_there(self, stream):
        """What a socket that does not block has by now."""
        got = b""
        try:
            while part := stream.recv(65536):
                got += part
        except (BlockingIOError, ConnectionResetError):
            pass
        return got

    def folder(self):
        folder = tempfile.TemporaryDirectory(prefix="kumoi-it-")
        self.addCleanup(folder.cleanup)
        return folder.name

    def storm(self, number, seconds=2.0, log_size=1 << 20, **members):
        """Lets it rage; returns the events that came and the statistics at the end."""
        guest = harness.Guest(self, harness.micro("storms"), f"storm={number}", name="storms", start=False,
                              disks=self.disks(), **{**EVERY_DEVICE, **members})
        guest.config["serial"]["log_size_max"] = log_size
        return self.rage(guest, seconds)

    def rage(self, guest, seconds):
        control = guest.start_watched()
        begun = time.monotonic()
        harness.wait_until(lambda: "begin" in guest.output() or os.path.exists(guest.path("console.log.1")),
                           30, "the storm")
        before = self.size(guest, control)
        end = time.monotonic() + seconds * harness.SLOW
        slowest = 0
        while time.monotonic() < end:
            asked = time.monotonic()
            control.call("state")
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.05)
        statistics = control.call("statistics")
        guest.check_alive()
        self.assertLess(self.size(guest, control) - before, GROWTH_MAX)
        self.assertLess(len(self.log_lines(guest)), LOG_MAX, guest.story())
        self.assertLess(slowest, 5 * harness.SLOW)
        control.call("pause")
        control.call("quit")
        self.assertEqual(guest.wait_exit(), 0, guest.story())
        # Ten at once and then one in ten seconds; the one more is the last of all, told at the end.
        self.told_most = 11 + int((time.monotonic() - begun) / 10)
        return control.events, statistics, guest

    def count(self, events, name):
        return sum(1 for event in events if event.get("event") == name)

    def assert_limited(self, told):
        self.assertGreaterEqual(told, 10)
        self.assertLessEqual(told, self.told_most)

    def test_resets(self):
        events, statistics, _ = self.storm(1)
        self.assert_limited(self.count(events, "reset"))
        self.assertGreater(statistics["reports_suppressed"], 0)

    def test_triple_faults(self):
        """Or, where KVM's emulator cannot deliver one, crashes that reset the machine."""
        events, statistics, _ = self.storm(2, on_crash="reset")
        self.assert_limited(self.count(events, "reset") + self.count(events, "crashed"))
        self.assertGreater(statistics["reports_suppressed"], 0)

    def test_panics_that_reset_the_machine(self):
        events, statistics, _ = self.storm(3, on_crash="reset")
        self.assertLessEqual(self.count(events, "guest_panicked"), self.told_most)
        self.assertLessEqual(self.count(events, "crashed") + self.count(events, "reset"), self.told_most)
        self.assertGreater(statistics["reports_suppressed"], 0)

    def test_panics_that_are_only_told(self):
        events, _, _ = self.storm(3, seconds=1, on_crash="continue")
        self.assertEqual(self.count(events, "guest_panicked"), 1)

    def test_watchdog(self):
        events, _, _ = self.storm(4, seconds=3)
        self.assertGreater(self.count(events, "watchdog"), 2)
        self.assertLessEqual(self.count(events, "watchdog"), self.told_most)

    def test_windows_onto_each_other(self):
        _, statistics, guest = self.storm(5)
        self.assertGreater(statistics["reports_suppressed"], 0, guest.story())

    def test_debug_port(self):
        guest = harness.Guest(self, harness.micro("storms"), "storm=6", name="storms")
        control = guest.control()
        harness.wait_until(lambda: control.call("statistics")["reports_suppressed"] > 1000, 60,
                           "lines that are not told")
        lines = len(self.log_lines(guest))
        self.assertLess(lines, 1040)
        control.call("quit")
        guest.wait_exit()

    def test_serial_line(self):
        _, statistics, guest = self.storm(7, log_size=4096)
        self.assertGreater(statistics["devices"]["serial"]["transmitted_bytes"], 8192)
        log = guest.path("console.log")
        self.assertLessEqual(os.path.getsize(log), 4096)
        self.assertLessEqual(os.path.getsize(log + ".1"), 4096)

    def test_device_that_breaks(self):
        events, statistics, _ = self.storm(8)
        self.assert_limited(self.count(events, "device_broken"))
        self.assertGreater(statistics["reports_suppressed"], 0)

    def test_registers_of_watchdog_and_pvpanic(self):
        events, statistics, _ = self.storm(9, on_crash="continue")
        self.assertEqual(self.count(events, "guest_panicked"), 1)
        self.assertLessEqual(self.count(events, "watchdog"), self.told_most)
        self.assertGreater(statistics["devices"]["watchdog"]["reloads"], 0)

    def flash(self, words):
        """A guest that is the firmware, not started, and the file of its variables."""
        code, nvram = (os.path.join(self.folder(), name) for name in ("code.fd", "nvram.fd"))
        harness.micro_firmware("flash", words, code)
        with open(nvram, "wb") as file:
            file.write(b"\xff" * FLASH_SIZE)
        guest = harness.Guest(self, None, start=False, name="flash",
                              firmware={"type": "uefi", "code": code, "nvram": nvram})
        del guest.config["boot"]
        return guest, nvram

    def test_flash(self):
        guest, nvram = self.flash(f"kib={FLASH_SIZE >> 10}")
        guest.start()
        guest.expect(r"micro: flash ok rounds=\d+", 60)
        self.assertEqual(guest.wait_exit(), 0, guest.story())
        with open(nvram, "rb") as file:
            content = file.read()
        self.assertEqual(len(content), FLASH_SIZE)
        block = content[-2 * 4096:-4096]
        self.assertTrue(block.startswith(b"kumoi flash\0\xff\xff\xff\xff\xa0\xa1\xa2\xa3\xff"), block[:32])

    def test_flash_that_is_written_for_ever(self):
        self.rage(self.flash(f"kib={FLASH_SIZE >> 10} storm")[0], 1.0)


if __name__ == "__main__":
    harness.main()
