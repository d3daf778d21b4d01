#!/usr/bin/python3
"""The fault proxy of the test cloud (devstack/cloud/faults/proxy.py) between a client and an echo server."""
import contextlib
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

PROXY = pathlib.Path(__file__).resolve().parents[3] / "devstack/cloud/faults/proxy.py"


def echo(listener):
    """Answers every connection with what it sends, until the listener is closed."""
    def serve(peer):
        with peer, contextlib.suppress(OSError):
            while piece := peer.recv(65536):
                peer.sendall(piece)
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(peer,), daemon=True).start()


class Proxy(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kumoi-proxy-"))
        self.addCleanup(shutil.rmtree, self.folder)
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        self.addCleanup(listener.shutdown, socket.SHUT_RDWR)
        self.port = listener.getsockname()[1]
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        control = self.folder / "control"
        proxy = subprocess.Popen([sys.executable, "-B", str(PROXY), "--socket", str(control), "--to", "127.0.0.1", "--ports",
                                  f"echo={self.port}", "n1=127.0.0.2", "n2=127.0.0.3"])
        self.addCleanup(proxy.wait)
        self.addCleanup(proxy.kill)
        deadline = time.monotonic() + 60
        while True:
            self.control = socket.socket(socket.AF_UNIX)
            try:
                self.control.connect(str(control))
                break
            except OSError:
                self.control.close()
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.02)
        self.addCleanup(self.control.close)
        self.control.settimeout(60)
        self.answers = self.control.makefile()
        self.addCleanup(self.answers.close)

    def ask(self, line):
        self.control.sendall(line.encode() + b"\n")
        return json.loads(self.answers.readline())

    def connect(self, address="127.0.0.2"):
        client = socket.create_connection((address, self.port), timeout=60)
        self.addCleanup(client.close)
        return client

    def say(self, client, text=b"hello"):
        client.sendall(text)
        got = b""
        while len(got) < len(text):
            piece = client.recv(65536)
            if not piece:
                raise ConnectionError("closed")
            got += piece
        return got

    def test_everything_flows_at_first(self):
        self.assertEqual(self.say(self.connect()), b"hello")
        self.assertEqual([one["state"] for one in self.ask("show")], ["pass", "pass"])

    def test_cut_resets_one_node_only(self):
        first, second = self.connect(), self.connect("127.0.0.3")
        self.say(first)
        self.say(second)
        self.assertEqual(self.ask("cut n1 echo")["done"], 1)
        with self.assertRaises(ConnectionError):
            self.say(first)
        with self.assertRaises(ConnectionError):
            self.say(self.connect())
        self.assertEqual(self.say(second), b"hello")
        self.ask("pass n1 echo")
        self.assertEqual(self.say(self.connect()), b"hello")

    def test_refuse_closes_the_port(self):
        self.ask("refuse n1 echo")
        with self.assertRaises(ConnectionRefusedError):
            self.connect()
        self.ask("pass n1 echo")
        self.assertEqual(self.say(self.connect()), b"hello")

    def test_stall_keeps_what_was_sent(self):
        client = self.connect()
        self.say(client)
        self.ask("stall n1 echo")
        self.ask("stall n1 echo")  # twice is as good as once
        client.sendall(b"held back")
        client.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            client.recv(100)
        client.settimeout(60)
        self.ask("pass n1 echo")
        self.assertEqual(client.recv(100), b"held back")

    def test_kick_is_over_at_once(self):
        client = self.connect()
        self.say(client)
        self.ask("kick all echo")
        with self.assertRaises(ConnectionError):
            self.say(client)
        self.assertEqual(self.say(self.connect()), b"hello")

    def test_slow_holds_both_directions_back(self):
        client = self.connect()
        self.ask("slow n1 echo 0.2")
        start = time.monotonic()
        self.say(client)
        self.assertGreaterEqual(time.monotonic() - start, 0.4)

    def test_after_so_many_bytes(self):
        client = self.connect()
        self.ask("after n1 echo 10 cut")
        self.assertEqual(self.say(client, b"123456789"), b"123456789")
        with self.assertRaises(ConnectionError):
            self.say(client, b"and more")
        self.assertEqual([one["state"] for one in self.ask("show")], ["cut", "pass"])

    def test_bad_commands_are_answered(self):
        for line in ("explode n1 echo", "cut", "cut n1 nothing", "slow n1 echo soon", "after n1 echo 5 explode"):
            self.assertIn("error", self.ask(line), line)
        self.assertEqual(self.say(self.connect()), b"hello")


if __name__ == "__main__":
    unittest.main(verbosity=2)
