"""Linux (kumoi-tiny) reaches user space every way it can be booted, and its devices work."""
import http.server
import json
import os
import shutil
import tempfile
import threading
import time

import harness

ROOT = "console=ttyS0 root=/dev/vda rw quiet"
BOOT_SECONDS = 100  # two emulated guests beside a compiler on two cores


class Linux(harness.Test):
    def root(self):
        return {"id": "root", "path": self.root_disk()}

    def expect_ok(self, guest, test):
        line = guest.expect(rf"kumoi-test: {test} (ok|FAIL)[^\n]*\n", 60)
        self.assertEqual(line.group(1), "ok", guest.story())
        return line.group(0)


class Boot(Linux):
    def test_initrd_without_a_disk(self):
        guest = harness.Guest(self, harness.linux("vmlinux"), "console=ttyS0 quiet kumoi.noshell",
                              initrd=harness.root_image("initrd.cpio"))
        guest.expect("kumoi-tiny: user space", BOOT_SECONDS)
        guest.expect("kumoi-tiny: ready")
        control = guest.control()
        control.call("reset")  # everything loaded again: Linux boots a second time
        guest.expect("kumoi-tiny: user space", BOOT_SECONDS)
        guest.expect("kumoi-tiny: ready")
        control.call("pause")
        control.call("resume")
        control.call("power_button")
        guest.expect("kumoi-tiny: power button, powering off")
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_bzimage_with_two_processors_and_a_config_drive(self):
        config_drive = self.config_drive({
            "openstack/latest/meta_data.json": json.dumps({
                "uuid": "83679162-1378-4288-a2d4-70e13ec132aa", "name": "smp",
                "hostname": "smp-1.novalocal",
                "public_keys": {"mykey": "ssh-ed25519 AAAA\\u0020test \"quoted\"\n"}}),
            "openstack/latest/user_data": "#!/bin/sh\necho user-data: $(hostname) "
                                          "$(wc -l < /root/.ssh/authorized_keys) > /dev/ttyS0\nexit 3\n",
        })
        guest = harness.Guest(self, harness.linux("bzImage"), ROOT + " kumoi.test=cpus",
                              memory_mib=96, vcpus=2,
                              disks=[self.root(), {"id": "config", "path": config_drive,
                                                   "read_only": True}])
        guest.expect(r"kumoi-tiny: hello from smp-1 \(config drive, 1 keys\)", BOOT_SECONDS)
        guest.expect("user-data: smp-1 1", 60)
        guest.expect("kumoi-tiny: user data ended with 3")
        self.assertIn("online=2 worked=2", self.expect_ok(guest, "cpus"))
        guest.expect("kumoi-tiny: ready")
        console = guest.console()
        console.sendall(b"echo $((6 * 7))-$(uname -n)\n")
        harness.read_until(console, b"42-smp-1", 60)
        control = guest.control()
        control.call("subscribe")
        console.sendall(b"reboot\n")
        guest.expect(r"kumoi-tiny: asked to, rebooting", 60)
        control.wait_event("reset")
        self.assertEqual(control.call("state")["state"], "running")
        control.call("quit")
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def config_drive(self, files):
        if shutil.which("xorriso") is None:
            harness.skip("no xorriso to make a config drive: install xorriso")
        folder = tempfile.mkdtemp(prefix="kumoi-it-")
        self.addCleanup(shutil.rmtree, folder, True)
        for name, text in files.items():
            path = os.path.join(folder, "files", name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(text)
        image = os.path.join(folder, "config.iso")
        harness.run("xorriso", "-as", "mkisofs", "-quiet", "-J", "-r", "-V", "config-2", "-o", image,
                    os.path.join(folder, "files"))
        return image


class Page(http.server.BaseHTTPRequestHandler):
    """The metadata service and one page."""
    PAGES = {
        "/page": b"kumoi" * 4000,
        "/openstack/latest/meta_data.json": json.dumps(
            {"uuid": "1e1b0f5e-1b0f-4e1b-8f5e-1b0f5e1b0f5e", "name": "web-1",
             "public_keys": {}}).encode(),
    }

    def do_GET(self):
        body = self.PAGES.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_):
        pass


class Network(Linux):
    @classmethod
    def setUpClass(cls):
        if shutil.which("dnsmasq") is None:
            harness.skip("no dnsmasq: install dnsmasq-base")
        harness.private_network()
        harness.make_tap("tap0", "10.77.0.1/24", "169.254.169.254/32")
        for port in (80, 8080):
            server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Page)
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def test_disks_dhcp_metadata_http_and_power_button(self):
        self.background(
            "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--interface=tap0", "--port=0",
            "--bind-interfaces", "--leasefile-ro", "--dhcp-authoritative", "--no-ping",
            "--dhcp-range=10.77.0.10,10.77.0.10,255.255.255.0,1h",
            "--dhcp-option=option:mtu,1400",
            "--dhcp-option=121,169.254.169.254/32,10.77.0.1,0.0.0.0/0,10.77.0.1")
        guest = harness.Guest(
            self, harness.linux("vmlinux"),
            ROOT + " kumoi.test=disk:/dev/vdb kumoi.test=rodisk:/dev/vdc kumoi.test=rng"
            " kumoi.test=fetch:http://10.77.0.1:8080/page kumoi.test=heartbeat",
            disks=[self.root(), {"id": "data", "path": self.disk(64)},
                   {"id": "fixed", "path": self.disk(4), "read_only": True}],
            nics=[{"id": "net0", "tap": "tap0", "mac": "52:54:00:4b:00:01", "mtu": 1500}])
        guest.expect("kumoi-tiny: user space", BOOT_SECONDS)
        guest.expect("kumoi-tiny: eth0 10.77.0.10/24 by DHCP", 60)
        guest.expect(r"kumoi-tiny: hello from web-1 \(metadata, 0 keys\)", 60)
        self.assertIn(f"size={64 << 20}", self.expect_ok(guest, "disk"))
        self.expect_ok(guest, "rodisk")
        self.expect_ok(guest, "rng")
        self.assertIn("bytes=20000", self.expect_ok(guest, "fetch"))
        guest.expect("kumoi-tiny: ready")
        self.check_pause(guest)
        harness.run("ping", "-c", "2", "-W", "5", "10.77.0.10") if shutil.which("ping") else None
        guest.control().call("power_button")
        guest.expect("kumoi-tiny: power button, powering off")
        self.assertEqual(guest.wait_exit(60), 0, guest.story())

    def check_pause(self, guest):
        control = guest.control()
        guest.expect("heartbeat 3")
        control.call("pause")
        before = guest.output().count("heartbeat")
        time.sleep(1)
        self.assertEqual(guest.output().count("heartbeat"), before)
        control.call("resume")
        guest.expect(f"heartbeat {before + 2}")


if __name__ == "__main__":
    harness.main()
