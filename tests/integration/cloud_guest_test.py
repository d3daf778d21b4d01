#!/usr/bin/python3
"""A whole cloud with a real guest: kumoi-compute with the kumoi-vmm driver in a network namespace of its
own, the stock openstack client, and kumoi-tiny as the tenant's server, without a config drive: what the
guest knows of itself it learned from 169.254.169.254."""
import os
import pathlib
import re
import socket
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
import linux_guest  # noqa: E402
from cloud import Cloud, enter_own_namespace, wait_until  # noqa: E402

PATIENCE = float(os.environ.get("KUMOI_TEST_PATIENCE", "1"))


class CloudGuest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        folders = linux_guest.folders()
        cls.cloud = Cloud(driver="kumoi")
        cls.addClassCleanup(cls.cloud.remove)
        cls.cloud.start()
        cls.addClassCleanup(cls.cloud.stop)
        cls.os = cls.cloud.openstack
        kernel = cls.os("image", "create", "kernel", "--disk-format", "aki", "--container-format", "aki",
                        "--file", f"{folders[0]}/vmlinux", "-f", "json")["id"]
        cls.os("image", "create", "tiny", "--disk-format", "raw", "--property", f"kernel_id={kernel}",
               "--property", "os_command_line=console=ttyS0 root=/dev/vda rw quiet",
               "--file", f"{folders[1]}/kumoi-tiny.raw", "-f", "json")
        cls.os("flavor", "create", "small", "--ram", "96", "--disk", "1")
        cls.os("flavor", "create", "larger", "--ram", "112", "--disk", "2")
        cls.os("network", "create", "net")
        cls.os("subnet", "create", "sub", "--network", "net", "--subnet-range", "10.77.0.0/24")
        (cls.cloud.state / "user-data").write_text("#!/bin/sh\necho user-data-of-$(hostname)\n")
        (cls.cloud.state / "key").mkdir()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{cls.cloud.state}/key/id"], check=True)
        cls.os("keypair", "create", "mine", "--public-key", f"{cls.cloud.state}/key/id.pub")

    def status(self, name):
        return self.os("server", "show", name, "-f", "json")["status"]

    def console(self, name):
        return self.os("console", "log", "show", name)

    def wait_status(self, name, status, seconds=30):
        wait_until(lambda: self.status(name) == status, seconds * PATIENCE, f"{name} is {status}", 0.5)

    def wait_console(self, name, pattern, count=1):
        server = self.os("server", "show", name, "-f", "json")["id"]
        log = self.cloud.state / "instances" / server / "console.log"

        def found():
            return len(re.findall(pattern, log.read_text(errors="replace"))) >= count
        try:
            wait_until(found, 180 * PATIENCE, f"{pattern} on the console of {name}", 0.2)
        except AssertionError as late:
            raise AssertionError(f"{late}: {log.read_text(errors='replace')[-2000:]}") from late

    def login(self, name, command):
        """Runs a command in the guest over its serial console and returns what it printed."""
        server = self.os("server", "show", name, "-f", "json")["id"]
        mark = f"done-{os.urandom(4).hex()}"
        with socket.socket(socket.AF_UNIX) as console:
            console.connect(str(self.cloud.state / "instances" / server / "console.sock"))
            console.settimeout(30 * PATIENCE)
            # Split, so that the echo of the line is not taken for its result.
            console.sendall(f"{command}; echo {mark[:4]}''{mark[4:]}\n".encode())
            seen = b""
            while mark.encode() not in seen:
                piece = console.recv(4096)
                self.assertTrue(piece, seen[-500:])
                seen += piece
        return seen.decode(errors="replace")

    def change_what_it_is_made_of(self, name, address):
        """What the guest wrote must be there after each verb that keeps its disk, and gone where it does not."""
        boots = 2
        self.login(name, "echo precious > /mark; sync")

        def expect(text, more_boots=1):
            nonlocal boots
            boots += more_boots
            self.wait_status(name, "ACTIVE", 60)
            self.wait_console(name, "kumoi-tiny: ready", boots)
            self.assertIn(text, self.login(name, "cat /mark"))

        self.os("server", "image", "create", "--wait", "--name", "copy", name)
        self.assertIn("precious", self.login(name, "cat /mark"), "the guest runs on")
        self.os("server", "create", "copy-1", "--wait", "--image", "copy", "--flavor", "small", "--network", "net")
        self.wait_console("copy-1", "kumoi-tiny: ready")
        self.assertIn("precious", self.login("copy-1", "cat /mark"))
        self.os("server", "delete", "--wait", "copy-1")
        self.os("server", "resize", "--wait", "--flavor", "larger", name)
        self.wait_status(name, "VERIFY_RESIZE", 60)
        self.os("server", "resize", "confirm", name)
        expect("precious")
        self.assertIn(" 2097152", self.login(name, "grep ' vda$' /proc/partitions"))
        self.os("server", "shelve", name)
        self.wait_status(name, "SHELVED_OFFLOADED", 90)
        self.os("server", "unshelve", name)
        boots = 0  # a new folder: a new console log
        expect("precious")
        self.assertEqual(self.os("server", "show", name, "-f", "json")["addresses"]["net"][0], address)
        self.os("server", "rescue", "--image", "tiny", name)
        self.wait_status(name, "RESCUE", 60)
        boots += 1
        self.wait_console(name, "kumoi-tiny: ready", boots)
        self.assertIn("precious", self.login(name, "mkdir -p /tmp/r; mount /dev/vdb /tmp/r; cat /tmp/r/mark; umount /tmp/r"))
        self.os("server", "unrescue", name)
        expect("precious")
        self.os("server", "rebuild", "--wait", "--image", "tiny", name)
        boots = 0
        expect("No such file")

    def test_life_of_a_real_server(self):
        self.os("server", "create", "vm-1", "--wait", "--image", "tiny", "--flavor", "small", "--network", "net",
                "--key-name", "mine", "--user-data", f"{self.cloud.state}/user-data")
        address = self.os("server", "show", "vm-1", "-f", "json")["addresses"]["net"][0]
        self.wait_console("vm-1", "kumoi-tiny: ready")
        console = self.console("vm-1")
        self.assertIn("hello from vm-1 (metadata, 1 keys)", console)
        self.assertIn(f"eth0 {address}/24 by DHCP", console)
        self.assertIn("user-data-of-vm-1", console)
        ping = subprocess.run(["busybox", "ping", "-c", "1", "-W", "2", address], capture_output=True)
        self.assertNotEqual(ping.returncode, 0, "the default security group lets nothing in")
        self.os("security", "group", "rule", "create", "--protocol", "icmp", "default")
        wait_until(lambda: not subprocess.run(["busybox", "ping", "-c", "1", "-W", "2", address],
                                              capture_output=True).returncode, 20 * PATIENCE, "a ping is answered", 0.5)
        self.os("server", "pause", "vm-1")
        self.wait_status("vm-1", "PAUSED")
        self.os("server", "unpause", "vm-1")
        self.wait_status("vm-1", "ACTIVE")
        self.os("server", "stop", "vm-1")
        self.wait_status("vm-1", "SHUTOFF", 60)
        self.os("server", "start", "vm-1")
        self.wait_status("vm-1", "ACTIVE")
        self.wait_console("vm-1", "kumoi-tiny: ready", 2)
        self.change_what_it_is_made_of("vm-1", address)
        self.os("server", "delete", "--wait", "vm-1")
        self.assertEqual(list((self.cloud.state / "instances").glob("*-*-*")), [])
        links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
        self.assertNotRegex(links, r": k[bt]")


if __name__ == "__main__":
    enter_own_namespace()
    unittest.main()
