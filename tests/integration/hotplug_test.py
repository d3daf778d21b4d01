"""A running guest gets and gives back parts: a disk, a NIC, a processor, memory."""
import re

import harness

ROOT = "console=ttyS0 root=/dev/vda rw quiet"
BOOT_SECONDS = 100


class MicroHotplug(harness.Test):
    """The registers by hand: a bare-metal guest without ACPI."""

    def boot(self, cmdline="", **members):
        # The guest ends as soon as it is served; the process must outlive the questions after.
        guest = harness.Guest(self, harness.micro("hotplug"), cmdline, on_shutdown="stay", **members)
        self.control = guest.control()
        self.control.call("subscribe")
        return guest

    def extra(self):
        path = self.disk(4)
        with open(path, "r+b") as file:
            file.write(b"hello")
        return {"id": "extra", "path": path}

    def finish(self, guest):
        guest.expect("micro: hotplug ok", 60)
        self.control.call("quit")
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_a_disk_comes_is_read_and_goes(self):
        guest = self.boot(disks=[{"id": "first", "path": self.disk(4)}])
        guest.expect("wants a disk")
        disk = self.extra()
        self.assertEqual(self.control.add_disk(disk), {"device": "extra", "slot": "0c.0"})
        self.assertEqual(self.control.ask_add_disk(disk)["error"]["code"], "conflict")
        guest.expect("waiting to let go")
        self.assertEqual(self.control.ask("remove_disk", id="extra", force=True)["error"]["code"], "conflict")
        self.assertEqual(self.control.call("remove_disk", id="extra"), {"device": "extra", "state": "removed"})
        self.assertEqual(self.control.wait_event("device_removed")["data"],
                         {"device": "extra", "requested": True})
        self.assertEqual(self.control.ask("remove_disk", id="extra")["error"]["code"], "not_found")
        self.finish(guest)

    def test_a_guest_that_does_not_release_is_told_of_and_a_stopped_one_is_forced(self):
        guest = self.boot("ignore", disks=[{"id": "first", "path": self.disk(4)}])
        guest.expect("wants a disk")
        self.control.add_disk(self.extra())
        guest.expect("waiting to let go")
        answer = self.control.ask("remove_disk", id="extra", timeout_ms=500)
        self.assertEqual(answer["error"]["code"], "timeout")
        self.assertIn("guest did not release", answer["error"]["message"])
        self.control.wait_event("device_removal_failed")
        guest.expect("disk gone", 60)  # it lets go in the end, and that counts
        self.assertFalse(self.control.wait_event("device_removed")["data"]["requested"])
        self.finish(guest)

    def test_a_paused_machine_lets_a_disk_be_forced_out(self):
        guest = self.boot(disks=[{"id": "first", "path": self.disk(4)}])
        guest.expect("wants a disk")
        self.control.call("pause")
        self.assertEqual(self.control.call("remove_disk", id="first", force=True)["state"], "removed")
        self.control.call("resume")
        self.assertEqual(self.control.add_disk(self.extra())["slot"], "0b.0")
        self.control.call("quit")
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_a_processor_comes_goes_and_comes_again(self):
        guest = self.boot("nodisk processor", vcpus=1, vcpus_max=2)
        guest.expect("wants a processor", 60)
        self.assertEqual(self.control.call("set_vcpus", vcpus=2), {"vcpus": 2})
        guest.expect("processor runs", 60)
        self.assertEqual(self.control.ask("set_vcpus", vcpus=3)["error"]["code"], "invalid_argument")
        self.assertEqual(self.control.call("set_vcpus", vcpus=1), {"vcpus": 1})
        self.assertEqual(self.control.call("state")["vcpus"], 1)
        self.assertEqual(self.control.call("set_vcpus", vcpus=2), {"vcpus": 2})
        guest.expect("runs again", 60)
        self.finish(guest)

    def test_hostile_registers_are_survived(self):
        guest = self.boot("nodisk", vcpus=1, vcpus_max=4,
                          disks=[{"id": "first", "path": self.disk(4)}])
        self.finish(guest)


class MicroMemory(harness.Test):
    """virtio-mem by hand: a bare-metal guest of 64 MiB that may have 128."""

    def boot(self, cmdline=""):
        guest = harness.Guest(self, harness.micro("mem"), cmdline, memory_max_mib=128)
        self.control = guest.control()
        self.control.call("subscribe")
        guest.expect("wants four blocks of 2097152", 60)
        return guest

    def sizes(self):
        memory = self.control.call("state")["memory"]
        return memory["memory_mib"], memory["memory_now_mib"], memory["memory_max_mib"]

    def test_memory_comes_is_used_and_goes(self):
        guest = self.boot()
        self.assertEqual(self.sizes(), (64, 64, 128))
        for mib, why in ((63, "memory_mib"), (129, "memory_mib"), (65, "whole blocks")):
            error = self.control.ask("set_memory", memory_mib=mib)["error"]
            self.assertEqual(error["code"], "invalid_argument")
            self.assertIn(why, error["message"])
        self.assertEqual(self.control.call("set_memory", memory_mib=72)["memory_mib"], 72)
        guest.expect("mem uses them", 120)
        self.assertEqual(self.control.wait_event("memory_changed")["data"]["memory_mib"], 72)
        self.assertEqual(self.sizes(), (72, 72, 128))
        self.control.call("set_memory", memory_mib=68)
        guest.expect("mem gave two back", 60)
        guest.expect("micro: mem ok", 180)
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_plugged_memory_is_saved_restored_and_gone_after_a_reset(self):
        guest = self.boot("hold")
        self.control.call("set_memory", memory_mib=72)
        guest.expect("mem uses them", 120)
        saved = guest.path("state")
        self.control.save(saved, after="quit")
        self.assertEqual(guest.wait_exit(60), 0, guest.story())
        guest.start("--restore", saved, "--restore-memory", "all")
        self.control = guest.control()
        self.assertEqual(self.sizes(), (72, 72, 128))
        rounds = self.control.call("statistics")["vcpus"][0]["cpu_time_ns"]
        harness.wait_until(
            lambda: self.control.call("statistics")["vcpus"][0]["cpu_time_ns"] > rounds + 300_000_000,
            60, "the guest to look at its memory again")
        self.assertNotIn("FAIL", guest.output())
        self.control.call("reset")
        self.assertEqual(self.sizes()[:2], (72, 64))
        self.control.call("quit")
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_huge_pages_are_taken_saved_and_given_back(self):
        free = self.huge_pages()
        if free < 32:
            harness.skip(f"{free} pages of 2 MiB are free; echo 32 > /proc/sys/vm/nr_hugepages")
        guest = harness.Guest(self, harness.micro("hello"), "beat", on_shutdown="stay",
                              memory={"page_size_kib": 2048, "prealloc": True},
                              numa=[{"vcpus": "0", "memory_mib": 32, "host_node": 0}, {"memory_mib": 32}])
        control = guest.control()
        self.assertEqual(control.call("statistics")["memory"]["resident_bytes"], 64 << 20)
        self.assertEqual(self.huge_pages(), free - 32)
        saved = guest.path("state")
        self.assertEqual(control.ask("save", path=saved, mode="live")["error"]["code"], "unsupported")
        control.save(saved, after="quit")
        self.assertEqual(guest.wait_exit(60), 0, guest.story())
        self.assertEqual(self.huge_pages(), free)
        guest.start("--restore", saved)  # which asks for pages on demand, and gets all
        control = guest.control()
        self.assertEqual(control.call("state")["state"], "running")
        self.assertEqual(self.huge_pages(), free - 32)
        control.call("reset")
        self.assertEqual(control.call("statistics")["memory"]["resident_bytes"], 64 << 20)
        control.call("quit")
        self.assertEqual(guest.wait_exit(), 0, guest.story())
        guest.config.update(memory_mib=4096, memory={"page_size_kib": 2048})
        del guest.config["numa"]
        guest.start()
        self.assertNotEqual(guest.wait_exit(), 0)
        with open(guest.path("vmm.log")) as log:
            self.assertIn("in pages of 2048 KiB", log.read())

    def huge_pages(self):
        def count(name):
            try:
                with open(f"/sys/kernel/mm/hugepages/hugepages-2048kB/{name}_hugepages") as file:
                    return int(file.read())
            except OSError:
                return 0
        return count("free") - count("resv")

    def test_a_machine_that_may_not_grow_says_so(self):
        guest = harness.Guest(self, harness.micro("hello"), "", on_shutdown="stay")
        error = guest.control().ask("set_memory", memory_mib=100)["error"]
        self.assertEqual(error["code"], "unsupported")
        self.assertIn("memory_max_mib", error["hint"])


class LinuxHotplug(harness.Test):
    def boot(self, **members):
        guest = harness.Guest(self, harness.linux("bzImage", "full"), ROOT, memory_mib=192,
                              disks=[{"id": "root", "path": self.root_disk()}], **members)
        guest.expect("kumoi-tiny: ready", BOOT_SECONDS)
        self.console = guest.console()
        self.control = guest.control()
        self.control.call("subscribe")
        return guest

    def shell(self, command, answer, seconds=60):
        """Runs a command in the guest until its output shows `answer` (a regular expression)."""
        marker = f"said-{self.id()[-4:]}-{self.count}"
        self.count += 1
        text = ""
        deadline = seconds
        self.console.sendall(f"{command}; echo {marker[:4]}''{marker[4:]}\n".encode())
        text = harness.read_until(self.console, marker.encode(), deadline)
        text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
        self.assertRegex(text, answer)
        return text

    def setUp(self):
        super().setUp()
        self.count = 0

    def until(self, command, answer, what, seconds=60):
        def there():
            marker = f"mark-{self.count}"
            self.count += 1
            self.console.sendall(f"{command}; echo {marker[:4]}''{marker[4:]}\n".encode())
            text = harness.read_until(self.console, marker.encode(), seconds)
            text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
            return re.search(answer, text)
        return harness.wait_until(there, seconds, what)

    def test_a_disk_comes_is_written_and_goes(self):
        self.boot()
        path = self.disk(8)
        answer = self.control.add_disk({"id": "extra", "path": path})
        self.assertEqual(answer["slot"], "0c.0")
        self.until("ls /dev/vdb", r"(?m)^/dev/vdb", "the disk in the guest")
        self.shell("echo written-by-guest | dd of=/dev/vdb bs=512 conv=sync 2>/dev/null; sync", "")
        self.assertEqual(self.control.call("remove_disk", id="extra", timeout_ms=60000)["state"], "removed")
        self.assertEqual(self.control.wait_event("device_removed")["data"]["device"], "extra")
        self.until("ls /dev/vdb", "No such file", "the end of the disk in the guest")
        with open(path, "rb") as extra:
            self.assertTrue(extra.read(16) == b"written-by-guest")
        # Name, slot and file are free again.
        self.assertEqual(self.control.add_disk({"id": "extra", "path": path})["slot"], "0c.0")
        self.until("ls /dev/vdb", r"(?m)^/dev/vdb", "the disk again")

    def test_a_nic_comes_and_goes(self):
        harness.private_network()
        harness.make_tap("hot0")
        self.boot()
        self.control.add_nic({"id": "net0", "tap": "hot0", "mac": "52:54:00:aa:bb:cc"})
        self.until("cat /sys/class/net/eth0/address", "52:54:00:aa:bb:cc", "the card in the guest")
        self.assertEqual(self.control.call("remove_nic", id="net0", timeout_ms=60000)["state"], "removed")
        self.until("ls /sys/class/net", r"(?m)^lo\r?$", "the end of the card")

    def test_processors_come_and_go(self):
        guest = self.boot(vcpus=1, vcpus_max=2)
        self.assertEqual(self.control.call("set_vcpus", vcpus=2)["vcpus"], 2)
        self.until("echo 1 > /sys/devices/system/cpu/cpu1/online; cat /sys/devices/system/cpu/online",
                   r"(?m)^0-1\r?$", "the second processor", 120)
        answer = self.control.ask("set_vcpus", vcpus=1, timeout_ms=60000)
        self.assertEqual(answer.get("result"), {"vcpus": 1}, guest.story())
        self.until("cat /sys/devices/system/cpu/online", r"(?m)^0\r?$", "one processor")
        self.assertEqual(self.control.call("set_vcpus", vcpus=2)["vcpus"], 2)  # and again

    def test_memory_comes_and_goes(self):
        guest = self.boot(memory_max_mib=192 + 512)
        self.control.call("set_memory", memory_mib=192 + 128)
        self.until("grep MemTotal /proc/meminfo", r"MemTotal: +(2[6-9]\d|3\d\d)\d\d\d kB",
                   "the memory in the guest", 180)
        self.assertEqual(self.control.call("state")["memory"]["memory_now_mib"], 320)
        self.control.call("set_memory", memory_mib=192)
        harness.wait_until(lambda: self.control.call("state")["memory"]["memory_now_mib"] < 260, 180,
                           "the guest to give memory back: " + guest.story()[-200:])


if __name__ == "__main__":
    harness.main()
