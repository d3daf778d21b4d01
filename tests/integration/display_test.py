"""What a person sees of a guest by VNC and does to it: firmware's text and keys, a bare metal guest that draws,
listens and attacks, pictures that survive a snapshot, and the same through a WebSocket."""
import os
import socket
import sys
import time

import harness
import rfb_client
sys.path.insert(0, os.path.join(harness.SOURCE, "tests/support"))
import websocket_client  # noqa: E402

BIOS = "/usr/share/seabios/bios-256k.bin"
VGABIOS = "/usr/share/seabios/vgabios-bochs-display.bin"
BIOS_SECONDS = 90
KEY_ESCAPE = 0xff1b


class Display(harness.Test):
    def watch(self, guest):
        path = guest.path("vnc.sock")
        harness.wait_until(lambda: os.path.exists(path), 10, "the VNC socket")
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(stream.close)
        stream.settimeout(30 * harness.SLOW)
        stream.connect(path)
        return rfb_client.Viewer(stream)

    def firmware(self, **firmware):
        if not os.path.exists(BIOS) or not os.path.exists(VGABIOS):
            harness.skip("no SeaBIOS and its vgabios: install seabios")
        guest = harness.Guest(self, None, start=False, memory_mib=64)
        del guest.config["boot"]
        guest.config["firmware"] = {"type": "bios", "code": BIOS, **firmware}
        guest.config["display"] = {"vgabios": VGABIOS, "vnc": [
            {"socket": guest.path("vnc.sock")},
            {"socket": guest.path("web.sock"), "websocket": True}]}
        return guest

    def read(self, picture):
        with open(VGABIOS, "rb") as file:
            return rfb_client.text_of(picture, rfb_client.vga_font(file.read()))

    def without_cursor(self, picture):
        """It blinks below the last line of text."""
        height = rfb_client.FONT_HEIGHT * (1 + self.read(picture).index("No bootable device."))
        return picture[:height]

    def see(self, viewer, wanted, press=None, prompt=None, guest=None):
        """Waits for the text on the screen. Presses the key when asked for it, and again when nothing came of it: a
        second press too early would leave the menu again. The firmware waits 2.5 s for the key, which a busy host may
        let pass: when it has gone on without, `guest` is reset and asks again."""
        seen = []
        pressed = 0.0

        def there():
            nonlocal pressed
            seen[:] = [line for line in self.read(viewer.picture()) if line]
            if any(wanted in line for line in seen):
                return True
            if guest and any("No bootable device" in line for line in seen):
                guest.control().call("reset")
                pressed = 0.0
            elif press and time.monotonic() - pressed > 2 and any(prompt in line for line in seen):
                viewer.type(press)
                pressed = time.monotonic()
            return False

        try:
            harness.wait_until(there, BIOS_SECONDS, f"{wanted!r} on the screen")
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {seen}") from None
        return seen

    def test_firmware_writes_on_the_screen_and_reads_keys(self):
        guest = self.firmware(boot_menu=True).start()
        viewer = self.watch(guest)
        self.assertEqual(viewer.name, "guest")
        self.see(viewer, "SeaBIOS (version")
        self.see(viewer, "Select boot device:", press=KEY_ESCAPE, prompt="Press ESC for boot menu", guest=guest)
        statistics = guest.control().call("statistics")["devices"]["vnc"]
        self.assertEqual(statistics["viewers"], 1)
        guest.control().call("reset")  # the picture and the keyboard begin again
        self.see(viewer, "Select boot device:", press=KEY_ESCAPE, prompt="Press ESC for boot menu", guest=guest)

    def test_picture_survives_a_snapshot_and_is_seen_through_a_websocket(self):
        guest = self.firmware().start()
        viewer = self.watch(guest)
        self.see(viewer, "No bootable device")
        before = viewer.picture()
        snapshot = guest.path("guest.snapshot")
        control = guest.control()
        control.call("subscribe")
        control.save(snapshot, after="quit")
        control.wait_event("save_done")
        self.assertEqual(guest.wait_exit(), 0, guest.story())
        guest.start("--restore", snapshot)
        stream = harness.wait_until(lambda: self.open_websocket(guest), 20, "the WebSocket")
        again = rfb_client.Viewer(stream)
        self.assertEqual((again.width, again.height), (viewer.width, viewer.height))
        self.assertEqual(self.without_cursor(again.picture()), self.without_cursor(before))
        self.assertIn("No bootable device.", self.read(before))
        guest.control().call("reset")
        self.see(again, "No bootable device")

    def open_websocket(self, guest):
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.settimeout(30 * harness.SLOW)
        try:
            stream.connect(guest.path("web.sock"))
        except OSError:
            stream.close()
            return None
        self.addCleanup(stream.close)
        return websocket_client.WebSocket(stream, "localhost", "/", protocols=["binary"])

    def test_picture_keys_and_attacks_of_a_bare_metal_guest(self):
        guest = harness.Guest(self, harness.micro("display"), start=False, memory_mib=32)
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = free.getsockname()
        guest.config["display"] = {"vnc": [{"socket": guest.path("vnc.sock")},
                                           {"listen": f"127.0.0.1:{address[1]}"}]}
        guest.start()
        guest.expect("micro: display drawn", 30)
        with socket.create_connection(address, 20 * harness.SLOW) as stream:
            self.check_picture(rfb_client.Viewer(stream))
        viewer = self.watch(guest)
        self.check_picture(viewer)
        viewer.key(ord("b"), 1)
        guest.expect("micro: display event 1 48 1", 20)
        viewer.key(ord("b"), 0)
        guest.expect("micro: display event 1 48 0", 20)
        viewer.pointer(319, 100, 1)
        guest.expect("micro: display event 3 0 32767", 20)
        guest.expect(r"micro: display event 3 1 164\d\d", 20)
        guest.expect("micro: display event 1 272 1", 20)
        viewer.type(ord("q"))  # now it attacks; somebody looks all the time
        while "micro: display again" not in guest.output():
            viewer.picture()
            guest.check_alive()
        self.check_picture(viewer)
        viewer.type(ord("a"))
        guest.expect(r"micro: display ok attacks=\d+", 30)
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def check_picture(self, viewer):
        rows = viewer.picture()
        self.assertEqual((viewer.width, viewer.height), (320, 200))
        for y in (0, 8, 192):
            for x in (0, 1, 255, 256, 319):
                pixel = int.from_bytes(rows[y][4 * x:4 * x + 4], "little")
                self.assertEqual(pixel, y << 16 | (x & 0xff) << 8 | 0x55, (x, y))
        self.assertEqual(rows[1], bytes(4 * 320))


if __name__ == "__main__":
    harness.main()
