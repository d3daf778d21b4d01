"""Disks on the SCSI bus: under a bare-metal guest that also attacks them, and as Linux's /dev/sda."""
import harness

ROOT = "console=ttyS0 root=/dev/sda rw quiet"
BOOT_SECONDS = 100


class Micro(harness.Test):
    def boot(self, cmdline="", **members):
        return harness.Guest(self, harness.micro("scsi"), cmdline, **members)

    def finish(self, guest, pattern, seconds=120):
        line = guest.expect(r"micro: scsi (ok|FAIL)[^\n]*\n", seconds)
        self.assertEqual(line.group(1), "ok", guest.story())
        self.assertRegex(line.group(0), pattern)
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_a_disk_is_written_read_trimmed_and_comes_through_attacks(self):
        path = self.disk(4)
        guest = self.boot("target=1", cdroms=[{"id": "cd0"}],
                          disks=[{"id": "victim", "path": path, "bus": "scsi"}])
        guest.expect("micro: scsi target 1 is a DISK", 60)
        self.finish(guest, r"blocks=8192 commands=\d+ attacks=33", 240)
        with open(path, "rb") as file:
            content = file.read()
        self.assertEqual(len(content), 4 << 20)
        self.assertEqual(content[:8 * 512], bytes(8 * 512))
        self.assertEqual(int.from_bytes(content[-16 * 512:][:8], "little"), 7 * 2654435761)

    def test_a_disk_comes_grows_and_goes(self):
        first = {"id": "first", "path": self.disk(4), "bus": "scsi"}
        # The guest ends as soon as its disk has gone; the process must outlive the questions after.
        guest = self.boot("hotplug", disks=[first], on_shutdown="stay")
        control = guest.control()
        control.call("subscribe")
        guest.expect("wants a disk", 60)
        path = self.disk(4)
        with open(path, "r+b") as file:
            file.write(b"hello")
        extra = {"id": "extra", "path": path, "bus": "scsi", "target": 9}
        self.assertEqual(control.add_disk(extra), {"device": "extra", "target": 9})
        self.assertEqual(control.wait_event("device_added")["data"], {"device": "extra", "target": 9})
        self.assertEqual(control.ask_add_disk(dict(extra, target=10))["error"]["code"], "conflict")
        self.assertEqual(control.ask_add_disk(dict(extra, id="other"))["error"]["code"], "invalid_argument")
        guest.expect("scsi reads hello, wants it larger", 60)
        self.assertEqual(control.call("resize_disk", disk="extra", size=8 << 20)["size"], 8 << 20)
        guest.expect("wants it gone", 60)
        limits = {"read_iops_sec": 1000}
        self.assertEqual(control.call("set_disk_limits", disk="extra", limits=limits)["limits"], limits)
        statistics = control.call("statistics")["devices"]
        self.assertEqual(statistics["extra"]["read_bytes"], 512)
        self.assertGreater(statistics["first"]["write_bytes"], 0)
        self.assertEqual(control.call("remove_disk", id="extra"), {"device": "extra", "state": "removed"})
        self.assertEqual(control.ask("remove_disk", id="extra")["error"]["code"], "not_found")
        guest.expect("micro: scsi ok hotplug", 120)
        control.call("quit")
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_a_disk_and_its_target_are_saved_and_restored(self):
        guest = self.boot("hotplug", disks=[{"id": "first", "path": self.disk(4), "bus": "scsi"}])
        control = guest.control()
        guest.expect("wants a disk", 60)
        saved = guest.path("state")
        control.save(saved, after="quit")
        self.assertEqual(guest.wait_exit(60), 0, guest.story())
        guest.start("--restore", saved, "--restore-memory", "all")
        control = guest.control()
        path = self.disk(4)
        self.assertEqual(control.add_disk({"id": "extra", "path": path, "bus": "scsi"})["target"], 1)
        guest.expect("wants it larger", 60)
        control.call("resize_disk", disk="extra", size=8 << 20)
        guest.expect("wants it gone", 60)
        control.call("remove_disk", id="extra")
        self.finish(guest, "hotplug")

    def test_a_machine_without_a_controller_says_so(self):
        guest = harness.Guest(self, harness.micro("hello"), "", on_shutdown="stay")
        error = guest.control().ask_add_disk({"id": "extra", "path": self.disk(4), "bus": "scsi"})["error"]
        self.assertEqual(error["code"], "unsupported")
        self.assertIn("SCSI controller", error["message"])


class Linux(harness.Test):
    def shell(self, command, answer, seconds=60):
        """Runs a command in the guest until its output shows `answer` (a regular expression)."""
        marker = f"said-{self.count}"
        self.count += 1
        self.console.sendall(f"{command}; echo {marker[:4]}''{marker[4:]}\n".encode())
        text = harness.read_until(self.console, marker.encode(), seconds)
        self.assertRegex(text.decode(errors="replace"), answer)

    def test_linux_lives_on_sda_and_sees_a_disk_come_grow_and_go(self):
        self.count = 0
        guest = harness.Guest(self, harness.linux("vmlinux", "full"), ROOT, memory_mib=96,
                              disks=[{"id": "root", "path": self.root_disk(), "bus": "scsi"}])
        guest.expect("kumoi-tiny: ready", BOOT_SECONDS)
        self.console = guest.console()
        control = guest.control()
        self.shell("echo kept > /kept; sync; cat /proc/partitions", r"\bsda\b")
        self.assertGreater(control.call("statistics")["devices"]["root"]["write_bytes"], 0)
        path = self.disk(4)
        control.add_disk({"id": "extra", "path": path, "bus": "scsi"})
        self.shell("sleep 2; cat /proc/partitions", r"4096 sdb")
        self.shell("echo hello > /dev/sdb; sync", "said")
        control.call("resize_disk", disk="extra", size=8 << 20)
        self.shell("sleep 2; cat /proc/partitions", r"8192 sdb")
        control.call("remove_disk", id="extra")
        self.shell("sleep 2; grep -c sdb /proc/partitions", r"\b0\b")
        with open(path, "rb") as file:
            self.assertEqual(file.read(6), b"hello\n")
        control.call("power_button")
        self.assertEqual(guest.wait_exit(60), 0, guest.story())


if __name__ == "__main__":
    harness.main()
