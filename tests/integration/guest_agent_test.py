"""Debian's qemu-guest-agent in a Linux guest answers on its channel."""
import json
import os
import select
import socket
import sys
import tempfile

import harness

sys.path.insert(0, os.path.join(harness.SOURCE, "tests/support"))
import agent_guest  # noqa: E402

BOOT_SECONDS = 150  # two emulated guests beside a compiler on two cores
NAME = "org.qemu.guest_agent.0"


class Agent:
    """The host's end of the channel, as kumoi-compute and libvirt use it."""

    def __init__(self, test, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        test.addCleanup(self.socket.close)
        self.socket.connect(path)
        self.buffer = b""

    def read_until(self, mark, seconds):
        while mark not in self.buffer:
            if not select.select([self.socket], [], [], seconds * harness.SLOW)[0]:
                raise AssertionError(f"the agent is silent; so far {self.buffer!r}")
            piece = self.socket.recv(65536)
            assert piece, "the channel was closed"
            self.buffer += piece
        part, self.buffer = self.buffer.split(mark, 1)
        return part

    def sync(self, number, seconds):
        request = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        self.socket.sendall(b"\xff" + json.dumps(request).encode() + b"\n")
        self.read_until(b"\xff", seconds)
        assert json.loads(self.read_until(b"\n", 30)) == {"return": number}

    def ask(self, command, **arguments):
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(self.read_until(b"\n", 60))


class GuestAgent(harness.Test):
    def setUp(self):
        if reason := agent_guest.missing():
            harness.skip(reason)

    def test_password_and_frozen_file_systems(self):
        folder = tempfile.TemporaryDirectory(prefix="kumoi-agent-")
        self.addCleanup(folder.cleanup)
        guest = harness.Guest(self, harness.linux("vmlinux"), "console=ttyS0 quiet", memory_mib=128,
                              initrd=agent_guest.make_initrd(folder.name),
                              disks=[{"id": "root", "path": self.root_disk()}],
                              channels=[{"name": NAME, "socket": "agent.sock"}], start=False)
        guest.start()
        agent_path = guest.path("agent.sock")
        harness.wait_until(lambda: os.path.exists(agent_path), 10, "the channel's socket")
        agent = Agent(self, agent_path)  # before the guest is up: the question waits for it
        agent.sync(1, BOOT_SECONDS)
        guest.expect(f"agent-guest: port {NAME}")
        self.assertEqual(agent.ask("guest-ping"), {"return": {}})

        password = {"username": "root", "password": "czNjcmV0", "crypted": False}  # s3cret
        self.assertEqual(agent.ask("guest-set-user-password", **password), {"return": {}})
        self.assertIn("error", agent.ask("guest-set-user-password", **{**password, "username": "nobody"}))
        console = guest.console()
        console.sendall(b"cat /etc/shadow\n")
        self.assertRegex(harness.read_until(console, b":99999:").decode(), r"root:[^*!:]{10,}:")

        self.assertEqual(agent.ask("guest-fsfreeze-freeze"), {"return": 1})
        self.assertEqual(agent.ask("guest-fsfreeze-status"), {"return": "frozen"})
        self.assertIn("error", agent.ask("guest-get-host-name"))  # it writes nothing now, not even a log
        agent.socket.close()
        second = Agent(self, agent_path)  # another may end it
        second.sync(2, 60)
        self.assertEqual(second.ask("guest-fsfreeze-thaw"), {"return": 1})
        self.assertEqual(second.ask("guest-fsfreeze-status"), {"return": "thawed"})
        counters = guest.control().call("statistics")["devices"]["channels"]
        self.assertEqual((counters["open_ports"], counters["tx_lost_bytes"]), (1, 0), counters)


if __name__ == "__main__":
    harness.main()
