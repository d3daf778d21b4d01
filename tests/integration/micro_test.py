"""Every bare-metal guest runs to its verdict and powers off, and kumoi-vmm ends with 0."""
import socket

import harness


class Micro(harness.Test):
    def run_guest(self, name, cmdline="", seconds=40, **members):
        guest = harness.Guest(self, harness.micro(name), cmdline, name=name, **members)
        line = guest.expect(rf"micro: (\w+) (ok|FAIL)[^\n]*\n", seconds)
        self.assertEqual(line.group(2), "ok", guest.story())
        self.assertEqual(guest.wait_exit(), 0, guest.story())
        self.assertIn(">", guest.output()[:1])
        return guest, line.group(0)

    def test_hello(self):
        _, line = self.run_guest("hello", memory_mib=96)
        self.assertIn("memory=96", line)

    def test_timer(self):
        self.run_guest("timer")

    def test_ipi(self):
        self.run_guest("ipi", vcpus=2)

    def test_dirty(self):
        self.run_guest("dirty", "mib=16 seconds=1")

    def test_rng(self):
        self.run_guest("rng")

    def test_pci_bus(self):
        disks = [{"id": f"d{i}", "path": self.disk(4)} for i in range(3)]
        _, line = self.run_guest("pcibus", disks=disks)
        self.assertIn("virtio=4", line)  # three disks and the rng

    def test_block_serves_a_disk(self):
        disk = self.disk(8)
        guest, line = self.run_guest("blk", disks=[{"id": "data", "path": disk, "serial": "S-1"}])
        self.assertIn("id=S-1", guest.output())
        self.assertIn(f"sectors={8 * 2048}", line)
        with open(disk, "rb") as file:  # the guest's last chunk ends at the disk's end
            self.assertNotEqual(file.read()[-16384:], bytes(16384))

    def test_block_serves_a_second_disk_read_only(self):
        self.run_guest("blk", "disk=1 readonly",
                       disks=[{"id": "a", "path": self.disk(4)},
                              {"id": "b", "path": self.disk(4), "read_only": True}])

    def test_a_server_powers_off_by_its_button(self):
        guest = harness.Guest(self, harness.micro("server"), name="server")
        guest.expect("micro: server ready", 40)
        self.assertIn("line 24 of 24", guest.output())
        guest.control().call("power_button")
        guest.expect("micro: server powers off", 40)
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_hostile_guest_is_survived(self):
        guest, line = self.run_guest("hostile", seconds=120,
                                     disks=[{"id": "victim", "path": self.disk(4)}])
        self.assertEqual(guest.output().count("survived"), int(line.split("attacks=")[1]))


class MicroNetwork(Micro):
    """The same, in a network namespace with a TAP."""

    @classmethod
    def setUpClass(cls):
        harness.private_network()
        harness.make_tap("tap0", "10.78.0.1/24")
        harness.make_tap("tap1", "10.79.0.1/24")

    def nic(self, tap="tap0"):
        return [{"id": "net0", "tap": tap, "mac": "52:54:00:4b:00:02"}]

    def test_udp_is_echoed(self):
        guest = harness.Guest(self, harness.micro("net"), "ip=10.78.0.2", nics=self.nic())
        guest.expect(r"micro: net up mac=52:54:0:4b:0:2")
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.settimeout(10 * harness.SLOW)
        client.connect(("10.78.0.2", 7))
        for size in (1, 64, 1000, 1472):
            payload = bytes(i * 7 % 251 for i in range(size))
            client.send(payload)
            self.assertEqual(client.recv(2000), payload)
        client.send(b"quit")
        guest.expect(r"micro: net ok in=\d+ out=\d+")
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_hostile_guest_with_a_network_card_is_survived(self):
        self.run_guest("hostile", seconds=120, nics=self.nic("tap1"),
                       disks=[{"id": "victim", "path": self.disk(4)}])


# unittest would run Micro's tests again in the subclass.
for name in [n for n in dir(Micro) if n.startswith("test_")]:
    setattr(MicroNetwork, name, None)

if __name__ == "__main__":
    harness.main()
