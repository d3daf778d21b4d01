#!/usr/bin/python3
"""Consoles of real guests in a real OpenStack, the way a user's browser reaches them: an address from nova-api, its
token through nova-novncproxy or nova-serialproxy, and behind them kumoi's ports."""
import pathlib
import socket
import sys
import unittest
import urllib.parse

from openstack_cloud import ADDRESS, PATIENCE, OpenStackCloud, rest, skip, wait_until

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "support")]
import rfb_client  # noqa: E402
import websocket_client  # noqa: E402

CLOUD = None
BOOT_SECONDS = 600  # where ring 0 is emulated and others compute


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    CLOUD = OpenStackCloud.up(compute="kumoi", proxy=True)
    unittest.addModuleCleanup(CLOUD.release)
    if not CLOUD.has_guests():
        skip("no guests (/dev/kvm, kumoi-vmm), so no consoles")


class Consoles(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.uuid = CLOUD.openstack("server", "create", "console", "--flavor", "m1.nano", "--image", "tiny", "--nic", "none",
                                   "-f", "json")["id"]
        cls.addClassCleanup(cls.remove)
        cls.server = CLOUD.wait_status(cls.uuid, "ACTIVE", 300)

    @classmethod
    def remove(cls):
        CLOUD.rest.delete("compute", f"/servers/{cls.uuid}")
        CLOUD.wait_gone(cls.uuid, 300)

    def open(self, port, target, protocols=()):
        """A WebSocket to a proxy, as a browser on the proxy's own page opens it."""
        stream = socket.create_connection((ADDRESS, port), 60 * PATIENCE)
        self.addCleanup(stream.close)
        origin = [("Origin", f"http://{ADDRESS}:{port}")]
        return websocket_client.WebSocket(stream, f"{ADDRESS}:{port}", target, protocols, origin)

    def address(self, *kind):
        shown = CLOUD.openstack("console", "url", "show", *kind, self.uuid, "-f", "json")
        return urllib.parse.urlsplit(shown["url"])

    def test_display_through_novncproxy(self):
        url = self.address("--novnc")
        self.assertEqual((url.hostname, url.port), (ADDRESS, 6080))
        target = "/" + urllib.parse.parse_qs(url.query)["path"][0]
        viewer = rfb_client.Viewer(self.open(url.port, target, ["binary"]))
        self.assertGreaterEqual(viewer.width, 640)
        rows = viewer.picture()
        self.assertEqual((len(rows), len(rows[0])), (viewer.height, 4 * viewer.width))

    def test_serial_line_through_serialproxy(self):
        url = self.address("--serial")
        self.assertEqual((url.scheme, url.hostname, url.port), ("ws", ADDRESS, 6083))
        line = self.open(url.port, f"/?{url.query}", ["binary"])
        line.stream.settimeout(BOOT_SECONDS * PATIENCE)
        # What was printed before somebody looked is shown first; then the guest's shell answers what is typed.
        self.see(line, b"kumoi-tiny: ready")
        line.sendall(b"echo answer $((20 + 22))\n")
        self.see(line, b"answer 42")

    def see(self, line, wanted):
        seen = b""
        while wanted not in seen:
            piece = line.recv(65536)
            self.assertTrue(piece, f"closed after {seen[-300:]!r}")
            seen += piece

    def test_a_token_that_nobody_gave_opens_nothing(self):
        for port in (6080, 6083):
            with self.assertRaises((websocket_client.Refused, EOFError, ConnectionError)):
                self.open(port, "/?token=00000000-0000-0000-0000-000000000000", ["binary"]).recv(1)
                raise EOFError  # closed at once is refused too

    def test_tokens_end_with_their_server(self):
        other = CLOUD.openstack("server", "create", "short", "--flavor", "m1.nano", "--image", "tiny", "--nic", "none",
                                "-f", "json")["id"]
        CLOUD.wait_status(other, "ACTIVE", 300)
        shown = CLOUD.rest.post("compute", f"/servers/{other}/remote-consoles",
                                {"remote_console": {"protocol": "vnc", "type": "novnc"}})
        url = urllib.parse.urlsplit(shown["remote_console"]["url"])
        token = urllib.parse.parse_qs(urllib.parse.parse_qs(url.query)["path"][0].lstrip("?"))["token"][0]
        console = CLOUD.rest.get("compute", f"/os-console-auth-tokens/{token}")["console"]
        self.assertEqual(console["instance_uuid"], other)
        CLOUD.rest.delete("compute", f"/servers/{other}")
        CLOUD.wait_gone(other, 300)
        with self.assertRaises(rest.Refused) as refused:
            CLOUD.rest.get("compute", f"/os-console-auth-tokens/{token}")
        self.assertEqual(refused.exception.status, 404)

    def test_console_log_is_what_the_guest_printed(self):
        wait_until(lambda: "kumoi-tiny: ready" in self.log(), BOOT_SECONDS, "the guest's words in its console log", 2)
        last = CLOUD.openstack("console", "log", "show", "--lines", "3", self.uuid)
        self.assertLessEqual(len(last.strip().splitlines()), 4)

    def log(self):
        return CLOUD.openstack("console", "log", "show", self.uuid)


if __name__ == "__main__":
    unittest.main(verbosity=2)
