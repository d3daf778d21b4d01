#!/usr/bin/python3
"""Consoles of a real cloud: kumoi-compute with kumoi-vmm, servers that boot SeaBIOS, addresses from the stock
openstack client, and WebSockets that show the screen and the serial console behind them."""
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
import rfb_client  # noqa: E402
import websocket_client  # noqa: E402
from cloud import CLI, Cloud, enter_own_namespace, wait_until  # noqa: E402

VGABIOS = "/usr/share/seabios/vgabios-bochs-display.bin"
PATIENCE = float(os.environ.get("KUMOI_TEST_PATIENCE", "1"))


class Consoles(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        pages = tempfile.TemporaryDirectory(prefix="kumoi-novnc-")  # the package may be missing
        cls.addClassCleanup(pages.cleanup)
        pathlib.Path(pages.name, "vnc_lite.html").write_text("<html>a page</html>")
        cls.cloud = Cloud(driver="kumoi", options=f"vnc novnc_path = {pages.name}")
        cls.addClassCleanup(cls.cloud.remove)
        cls.cloud.start()
        cls.addClassCleanup(cls.cloud.stop)
        cls.os = cls.cloud.openstack
        blank = cls.cloud.state / "blank.raw"
        with open(blank, "wb") as file:
            file.truncate(1 << 20)
        cls.os("image", "create", "blank", "--disk-format", "raw", "--file", str(blank), "-f", "json")
        cls.os("image", "create", "headless", "--disk-format", "raw", "--file", str(blank),
               "--property", "hw_video_model=none", "-f", "json")
        cls.os("flavor", "create", "small", "--ram", "64", "--disk", "0")
        for name, image in (("web", "blank"), ("headless", "headless")):
            cls.os("--os-compute-api-version", "2.37", "server", "create", "--wait", "--image", image,
                   "--flavor", "small", "--nic", "none", name)

    def url(self, server, kind, version):
        shown = self.os("--os-compute-api-version", version, "console", "url", "show", f"--{kind}",
                        "-f", "json", server)
        return shown["url"]

    def open(self, target, headers=()):
        stream = socket.create_connection(("127.0.0.1", self.cloud.ports["console"]), 60 * PATIENCE)
        self.addCleanup(stream.close)
        host = f"127.0.0.1:{self.cloud.ports['console']}"
        return websocket_client.WebSocket(stream, host, target, ["binary"], headers)

    def target(self, url):
        """The WebSocket's path and query, as noVNC makes it from the address of its page."""
        query = urllib.parse.parse_qs(urllib.parse.urlparse(url).query)
        return "/" + query["path"][0]

    def status_of(self, target, headers=()):
        with self.assertRaises(websocket_client.Refused) as refused:
            self.open(target, headers)
        return refused.exception.args[0]

    def see(self, viewer, wanted):
        font = rfb_client.vga_font(pathlib.Path(VGABIOS).read_bytes())
        wait_until(lambda: any(wanted in line for line in rfb_client.text_of(viewer.picture(), font)),
                   90 * PATIENCE, f"{wanted!r} on the screen", 0.2)

    def test_1_display_in_the_browsers_way(self):
        page = f"http://127.0.0.1:{self.cloud.ports['console']}/vnc_lite.html"
        for version in ("2.1", "2.6", "2.90"):
            url = self.url("web", "novnc", version)
            self.assertTrue(url.startswith(page + "?path=%3Ftoken%3D"), url)
        with urllib.request.urlopen(url, timeout=30) as answer:
            self.assertEqual(answer.read(), b"<html>a page</html>")
            self.assertEqual(answer.headers["Content-Type"], "text/html; charset=utf-8")
        target = self.target(url)
        viewer = rfb_client.Viewer(self.open(target, [("Origin", page.rsplit("/", 1)[0])]))
        self.assertEqual(viewer.name, "web")
        self.see(viewer, "No bootable device")
        self.see(rfb_client.Viewer(self.open(target)), "SeaBIOS")  # the token is good for another
        self.assertEqual(self.status_of(target, [("Origin", "http://evil.example")]), 403)
        self.assertEqual(self.status_of("/?token=" + "0" * 64), 403)
        self.assertEqual(self.status_of("/"), 403)

    def test_2_serial_console(self):
        url = self.url("web", "serial", "2.6")
        self.assertTrue(url.startswith(f"ws://127.0.0.1:{self.cloud.ports['console']}/?token="), url)
        console = self.open(url[url.index("/?"):])
        seen = b""
        while b"SeaBIOS" not in seen:
            piece = console.recv(4096)
            self.assertTrue(piece, seen)
            seen += piece

    def test_3_what_is_not_there_is_refused(self):
        self.assertIn("Unavailable console type novnc",
                      self.cloud.refused("console", "url", "show", "--novnc", "headless"))
        self.assertTrue(self.url("headless", "serial", "2.6"))
        self.assertIn("Unavailable console type",
                      self.cloud.refused("console", "url", "show", "--spice", "web"))

    def test_4_administrators_see_what_a_token_opens(self):
        token = self.target(self.url("web", "novnc", "2.6")).split("token=")[1]
        secret = self.os("token", "issue", "-f", "json")["id"]
        status, _, shown = self.cloud.request(
            "api", "GET", f"/v2.1/os-console-auth-tokens/{token}", token=secret,
            headers={"OpenStack-API-Version": "compute 2.31"})
        self.assertEqual(status, 200, shown)
        server = self.os("server", "show", "web", "-f", "json")["id"]
        self.assertEqual(shown["console"]["instance_uuid"], server)
        self.assertTrue(shown["console"]["internal_access_path"].endswith(f"{server}/vnc.sock"))

    def test_5_kumoi_prints_the_address_and_a_stopped_server_has_none(self):
        printed = subprocess.run([str(CLI), "server", "display", "web"], capture_output=True,
                                 text=True, check=True).stdout.strip()
        viewer = self.open(self.target(printed))
        rfb_client.Viewer(viewer).picture()
        self.os("server", "stop", "web")
        wait_until(lambda: self.os("server", "show", "web", "-f", "json")["status"] == "SHUTOFF",
                   90 * PATIENCE, "web is stopped", 0.5)
        while viewer.recv(65536):
            pass
        self.assertEqual(viewer.close_code, 1001)
        self.assertIn("not ready", self.cloud.refused("console", "url", "show", "--novnc", "web"))
        self.assertEqual(self.status_of(self.target(printed)), 403)
        self.os("server", "delete", "--wait", "web")
        self.assertEqual(self.status_of(self.target(printed)), 403)


if __name__ == "__main__":
    enter_own_namespace((VGABIOS, "no SeaBIOS and its vgabios: install seabios"))
    unittest.main(verbosity=2)
