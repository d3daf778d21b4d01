"""Balloon, vsock, watchdog, pvpanic and the network control queue under guests: bare metal ones that also
attack them, and Linux."""
import socket
import threading

import harness

ROOT = "console=ttyS0 root=/dev/vda rw quiet"
BOOT_SECONDS = 100


class Devices(harness.Test):
    def micro(self, name, cmdline="", **members):
        return harness.Guest(self, harness.micro(name), cmdline, name=name, **members)

    def expect_verdict(self, guest, pattern, seconds=60):
        line = guest.expect(r"micro: (\w+) (ok|FAIL)[^\n]*\n", seconds)
        self.assertEqual(line.group(2), "ok", guest.story())
        self.assertRegex(line.group(0), pattern)
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def echo_server(self, path):
        """Listens and echoes every connection until it ends."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(8)
        self.addCleanup(listener.close)

        def serve():
            while True:
                try:
                    stream, _ = listener.accept()
                except OSError:
                    return
                with stream:
                    while data := stream.recv(65536):
                        stream.sendall(data)
        threading.Thread(target=serve, daemon=True).start()

    def connect_vsock(self, guest, port):
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.settimeout(30 * harness.SLOW)
        self.addCleanup(stream.close)
        stream.connect(guest.path("vsock.sock"))
        stream.sendall(f"CONNECT {port}\n".encode())
        answer = harness.read_until(stream, b"\n", 30)
        self.assertRegex(answer, rb"OK \d+\n")
        return stream


class Micro(Devices):
    def test_balloon_and_attacks_on_it(self):
        guest = self.micro("balloon", balloon={})
        self.expect_verdict(guest, r"attacks=\d+", 120)

    def test_the_balloon_follows_its_target_and_the_host_has_the_memory(self):
        guest = self.micro("balloon", "wait", memory_mib=96, balloon={})
        guest.expect("micro: balloon waits", 60)
        control = guest.control()
        self.assertEqual(control.call("balloon")["statistics"], {"free_bytes": 123456})
        before = control.call("statistics")["memory"]["resident_bytes"]
        control.call("balloon", target_mib=16)
        guest.expect("micro: balloon filled 4096 pages", 60)  # which the host had to back
        guest.expect("micro: balloon gave 4096 pages", 60)
        given = control.call("statistics")["memory"]["resident_bytes"]
        self.assertLess(given - before, 4 << 20)
        self.assertEqual(control.call("balloon")["actual_mib"], 16)
        refused = control.ask("balloon", target_mib=97)
        self.assertIn("97 MiB", refused["error"]["message"])
        control.call("balloon", target_mib=0)
        self.expect_verdict(guest, "followed")

    def test_vsock_both_ways_and_attacks_on_it(self):
        guest = self.micro("vsock", start=False)
        guest.config["vsock"] = {"cid": 42, "socket": guest.path("vsock.sock")}
        self.echo_server(guest.path("vsock.sock_5000"))
        guest.start()
        guest.expect("micro: vsock listens on 7", 60)
        stream = self.connect_vsock(guest, 7)
        total = 0
        for size in (1, 1000, 100_000):
            payload = bytes(i * 7 % 251 for i in range(size))
            stream.sendall(payload)
            got = b""
            while len(got) < size:
                piece = stream.recv(65536)
                self.assertTrue(piece, guest.story())
                got += piece
            self.assertEqual(got, payload)
            total += size
        stream.close()
        self.expect_verdict(guest, rf"cid=42 echoed={total} attacks=\d+", 120)

    def test_watchdog_registers_take_anything(self):
        self.expect_verdict(self.micro("watchdog", watchdog={"action": "none"}), "survived", 90)

    def test_an_expired_watchdog_resets_the_machine(self):
        guest = self.micro("watchdog", "expire", watchdog={"action": "reset"})
        control = guest.control()
        control.call("subscribe")
        self.assertEqual(control.wait_event("watchdog")["data"], {"action": "reset"})
        self.expect_verdict(guest, "was reset")

    def test_an_expired_watchdog_pauses_the_machine(self):
        guest = self.micro("watchdog", "expire", watchdog={"action": "pause"})
        control = guest.control()
        control.call("subscribe")
        control.wait_event("paused")
        self.assertEqual(control.call("state")["state"], "paused")
        control.call("quit")
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_an_expired_watchdog_powers_the_machine_off(self):
        guest = self.micro("watchdog", "expire", watchdog={"action": "poweroff"})
        self.assertEqual(guest.wait_exit(60), 0, guest.story())

    def test_a_panic_is_told_once_and_the_guest_may_go_on(self):
        guest = self.micro("watchdog", "panic wait", watchdog={"action": "none"}, on_crash="continue")
        control = guest.control()
        control.call("subscribe")
        guest.console().sendall(b"go")
        control.wait_event("guest_panicked")
        self.expect_verdict(guest, "survived", 90)
        with self.assertRaises(EOFError):
            while True:
                event = control.read_message()
                self.assertNotEqual(event.get("event"), "guest_panicked")

    def test_a_panic_is_a_crash(self):
        guest = self.micro("watchdog", "panic", watchdog={"action": "none"}, on_crash="exit")
        self.assertEqual(guest.wait_exit(60), 3, guest.story())


class MicroNetwork(Devices):
    @classmethod
    def setUpClass(cls):
        harness.private_network()
        harness.make_tap("tap0")
        harness.run("ip", "tuntap", "add", "tap1", "mode", "tap", "vnet_hdr", "multi_queue")
        harness.run("ip", "link", "set", "tap1", "up")

    def test_control_queue_and_attacks(self):
        guest = self.micro("netctl", nics=[{"id": "net0", "tap": "tap0", "mac": "52:54:00:4b:00:02",
                                            "limits": {"outbound_bytes_sec": 100000}}])
        control = guest.control()
        limits = {"inbound_bytes_sec": 200000, "inbound_burst_bytes": 9000}
        self.assertEqual(control.call("set_nic_limits", nic="net0", limits=limits)["limits"], limits)
        self.assertEqual(control.ask("set_nic_limits", nic="rng", limits={})["error"]["code"], "not_found")
        self.expect_verdict(guest, "pairs=1", 120)

    def test_control_queue_with_several_pairs_and_attacks(self):
        guest = self.micro("netctl", nics=[{"id": "net0", "tap": "tap1", "mac": "52:54:00:4b:00:02",
                                            "queue_pairs": 3}])
        self.expect_verdict(guest, "pairs=3", 120)


class Linux(Devices):
    def test_balloon_vsock_watchdog_and_panic(self):
        guest = harness.Guest(
            self, harness.linux("vmlinux", "full"), ROOT + " kumoi.test=vsock:5000", memory_mib=96,
            disks=[{"id": "root", "path": self.root_disk()}], start=False, on_crash="exit",
            balloon={"statistics_interval_ms": 500}, watchdog={"action": "reset"})
        guest.config["vsock"] = {"cid": 3, "socket": guest.path("vsock.sock")}
        self.echo_server(guest.path("vsock.sock_5000"))
        guest.start()
        guest.expect("kumoi-tiny: user space", BOOT_SECONDS)
        line = guest.expect(r"kumoi-test: vsock (ok|FAIL)[^\n]*\n", 60)
        self.assertEqual(line.group(1), "ok", guest.story())
        guest.expect("kumoi-tiny: ready", 60)
        control = guest.control()
        control.call("subscribe")
        self.check_balloon(control)
        console = guest.console()
        console.sendall(b"watchdog -T 1 -t 20 /dev/watchdog && echo fed-$((40 + 2))\n")
        harness.read_until(console, b"fed-42", 60)
        self.assertEqual(control.wait_event("watchdog")["data"], {"action": "reset"})
        control.wait_event("reset")
        control.call("quit")
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def check_balloon(self, control):
        def free():
            return control.call("balloon")["statistics"].get("free_bytes", 0)
        before = harness.wait_until(free, 30, "the guest's memory statistics")
        self.assertLess(before, 96 << 20)
        control.call("balloon", target_mib=24)
        harness.wait_until(lambda: control.call("balloon")["actual_mib"] == 24, 60, "the balloon")
        harness.wait_until(lambda: 0 < free() < before - (16 << 20), 30, "less free memory")
        control.call("balloon", target_mib=0)
        harness.wait_until(lambda: control.call("balloon")["actual_mib"] == 0, 60, "an empty balloon")

    def test_a_kernel_panic_is_a_crash(self):
        guest = harness.Guest(self, harness.linux("vmlinux", "full"), ROOT + " init=/bin/false",
                              disks=[{"id": "root", "path": self.root_disk()}], on_crash="exit")
        self.assertEqual(guest.wait_exit(BOOT_SECONDS), 3, guest.story())
        with open(guest.path("vmm.log"), encoding="utf-8") as log:
            self.assertIn("the guest's kernel panicked", log.read())


if __name__ == "__main__":
    harness.main()
