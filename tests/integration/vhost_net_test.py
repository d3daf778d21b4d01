"""A card whose frames the kernel's vhost-net carries: echo, a pause, a snapshot, and what is refused without it."""
import os
import socket

import harness


class VhostNet(harness.Test):
    def nic(self, vhost):
        return [{"id": "net0", "tap": "tap0", "mac": "52:54:00:4b:00:02", "vhost": vhost}]

    def setUp(self):
        super().setUp()
        harness.private_network()
        harness.make_tap("tap0", "10.78.0.1/24")

    def echo(self, client, payload):
        client.send(payload)
        self.assertEqual(client.recv(2000), payload)

    def boot(self, vhost):
        guest = harness.Guest(self, harness.micro("net"), "ip=10.78.0.2", nics=self.nic(vhost))
        guest.expect("micro: net up")
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.settimeout(10 * harness.SLOW)
        client.connect(("10.78.0.2", 7))
        return guest, client

    def end(self, guest, client):
        client.send(b"quit")
        guest.expect(r"micro: net ok in=\d+ out=\d+")
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_auto_does_without_where_there_is_none(self):
        guest, client = self.boot("auto")
        self.echo(client, b"x" * 1000)
        card = guest.control().call("statistics")["devices"]["net0"]
        self.assertEqual(card["vhost"], 1 if os.path.exists("/dev/vhost-net") else 0)
        self.end(guest, client)

    def test_the_kernel_carries_frames_through_a_pause(self):
        if not os.path.exists("/dev/vhost-net"):
            harness.skip("/dev/vhost-net is not on this machine (modprobe vhost_net)")
        guest, client = self.boot("on")
        control = guest.control()
        for size in (1, 64, 1000, 1472):
            self.echo(client, bytes(i * 7 % 251 for i in range(size)))
        self.assertEqual(control.call("statistics")["devices"]["net0"]["vhost"], 1)
        control.call("pause")
        self.assertEqual(control.call("statistics")["devices"]["net0"]["vhost"], 0)
        client.send(b"y" * 100)  # waits in the TAP
        control.call("resume")
        self.assertEqual(client.recv(2000), b"y" * 100)
        saved = guest.path("state")
        control.save(saved, after="quit")
        self.assertEqual(guest.wait_exit(60), 0, guest.story())
        guest.start("--restore", saved)
        self.echo(client, b"z" * 100)
        self.end(guest, client)


if __name__ == "__main__":
    harness.main()
