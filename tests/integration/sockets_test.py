"""The console socket with several readers and one writer, and both sockets against hostile clients."""
import os
import socket

import harness


class Console(harness.Test):
    def echoing(self, **members):
        guest = harness.Guest(self, harness.micro("hello"), "echo", **members)
        guest.expect("micro: hello echo")
        return guest

    def test_many_read_and_one_writes(self):
        guest = self.echoing()
        readers = [guest.console() for _ in range(5)]
        for reader in readers:  # the scrollback comes first
            harness.read_until(reader, b"hello echo")
        readers[0].sendall(b"abc")
        for reader in readers:
            harness.read_until(reader, b"ABC")
        readers[1].sendall(b"x")  # not the writer: ignored
        readers[0].sendall(b"def")
        self.assertNotIn(b"X", harness.read_until(readers[2], b"DEF"))
        readers[0].close()
        newcomer = guest.console()
        harness.read_until(newcomer, b"ABCDEF")
        newcomer.sendall(b"q.")
        guest.expect("micro: hello ok")
        self.assertEqual(guest.wait_exit(), 0, guest.story())

    def test_reader_that_never_reads_does_not_stop_the_guest(self):
        guest = self.echoing()
        sleeper = guest.console()
        writer = guest.console()
        for _ in range(30):
            writer.sendall(b"a" * 512)
            harness.read_until(writer, b"A" * 100)
        self.assertIsNotNone(sleeper)
        writer.sendall(b".")
        self.assertEqual(guest.wait_exit(60), 0, guest.story())


class HostileControl(harness.Test):
    def setUp(self):
        self.guest = harness.Guest(self, harness.micro("hello"), "beat")
        self.guest.expect("beat 1")

    def raw(self):
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(stream.close)
        stream.settimeout(20 * harness.SLOW)
        harness.wait_until(lambda: os.path.exists(self.guest.path("control.sock")), 10, "socket")
        stream.connect(self.guest.path("control.sock"))
        return stream

    def still_serves(self):
        control = self.guest.control()
        self.assertEqual(control.call("state")["state"], "running")
        control.close()

    def test_nonsense_is_answered_or_closed(self):
        lines = [b"\n", b"{}\n", b"[]\n", b"null\n", b"{\"id\":1}\n", b"{\"method\":5}\n",
                 b"{\"id\":{},\"method\":\"state\"}\n", b"\xff\xfe\x00\n", b"{\"id\":1,\n",
                 b"[" * 10000 + b"\n", b"{\"id\":1,\"method\":\"" + b"a" * 5000 + b"\"}\n",
                 b"{\"id\":1,\"method\":\"state\",\"params\":[]}\n",
                 b"{\"id\":1e400,\"method\":\"state\"}\n"]
        for line in lines:
            stream = self.raw()
            stream.sendall(line)
            stream.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := stream.recv(65536):
                answer += piece
            if answer:
                self.assertIn(b"error", answer.split(b"\n")[0], line)
        self.still_serves()

    def test_endless_line_is_cut_off(self):
        stream = self.raw()
        sent = 0
        try:
            while sent < 64 << 20:
                sent += stream.send(b"a" * 65536)
        except OSError:
            pass
        self.assertLess(sent, 16 << 20)
        self.still_serves()

    def test_many_connections_and_no_reading(self):
        streams = []
        for _ in range(200):
            try:
                streams.append(self.raw())
                streams[-1].setblocking(False)
                streams[-1].send(b'{"id":1,"method":"statistics"}\n' * 200)
            except OSError:  # refused or already closed: both are right
                break
        self.assertGreater(len(streams), 4)
        for stream in streams:
            stream.close()
        self.still_serves()

    def test_create_on_a_running_machine_is_refused(self):
        answer = self.guest.control().ask("create", config={"memory_mib": 64})
        self.assertIn("error", answer)
        answer = self.guest.control().ask("stat")
        self.assertIn("error", answer)
        self.still_serves()


if __name__ == "__main__":
    harness.main()
