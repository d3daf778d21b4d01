"""A running guest gets and gives back parts: a disk, a NIC, a processor."""
import re

import harness

ROOT = "console=ttyS0 root=/dev/vda rw quiet"
BOOT_SECONDS = 100


class MicroHotplug(harness.Test):
    """The registers by hand: a bare-metal guest without ACPI."""

    def boot(self, cmdline="", **members):
        guest = harness.Guest(self, harness.micro("hotplug"), cmdline, **members)
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
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_a_disk_comes_is_read_and_goes(self):
        guest = self.boot(disks=[{"id": "first", "path": self.disk(4)}])
        guest.expect("wants a disk")
        disk = self.extra()
        self.assertEqual(self.control.call("add_disk", disk=disk), {"device": "extra", "slot": "0c.0"})
        self.assertEqual(self.control.ask("add_disk", disk=disk)["error"]["code"], "conflict")
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
        self.control.call("add_disk", disk=self.extra())
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
        self.assertEqual(self.control.call("add_disk", disk=self.extra())["slot"], "0b.0")
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


class LinuxHotplug(harness.Test):
    def boot(self, **members):
        guest = harness.Guest(self, harness.linux("bzImage"), ROOT, memory_mib=192,
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
        answer = self.control.call("add_disk", disk={"id": "extra", "path": path})
        self.assertEqual(answer["slot"], "0c.0")
        self.until("ls /dev/vdb", r"(?m)^/dev/vdb", "the disk in the guest")
        self.shell("echo written-by-guest | dd of=/dev/vdb bs=512 conv=sync 2>/dev/null; sync", "")
        self.assertEqual(self.control.call("remove_disk", id="extra", timeout_ms=60000)["state"], "removed")
        self.assertEqual(self.control.wait_event("device_removed")["data"]["device"], "extra")
        self.until("ls /dev/vdb", "No such file", "the end of the disk in the guest")
        with open(path, "rb") as extra:
            self.assertTrue(extra.read(16) == b"written-by-guest")
        # Name, slot and file are free again.
        self.assertEqual(self.control.call("add_disk", disk={"id": "extra", "path": path})["slot"], "0c.0")
        self.until("ls /dev/vdb", r"(?m)^/dev/vdb", "the disk again")

    def test_a_nic_comes_and_goes(self):
        harness.private_network()
        harness.make_tap("hot0")
        self.boot()
        self.control.call("add_nic", nic={"id": "net0", "tap": "hot0", "mac": "52:54:00:aa:bb:cc"})
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


if __name__ == "__main__":
    harness.main()
