"""A small WebSocket client (RFC 6455) over a connected stream: recv(n) and sendall(bytes) of the payload, as a
socket has them, so that what speaks over sockets speaks over it."""
import base64
import os
import struct


class Refused(Exception):
    """The server answered with something else than 101; args: status, body."""


class WebSocket:
    def __init__(self, stream, host, target, protocols=(), headers=()):
        self.stream = stream
        self.payload = b""
        self.close_code = None
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}", "Upgrade: websocket",
                 "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode()]
        if protocols:
            lines.append("Sec-WebSocket-Protocol: " + ", ".join(protocols))
        lines += [f"{name}: {value}" for name, value in headers]
        stream.sendall("\r\n".join(lines + ["", ""]).encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        self.head = head.decode()
        status = int(self.head.split()[1])
        if status != 101:
            body = self.buffer
            try:
                while True:
                    self.more()
                    body = self.buffer
            except EOFError:
                pass
            raise Refused(status, body.decode("utf-8", "replace"))

    def more(self):
        piece = self.stream.recv(65536)
        if not piece:
            raise EOFError("the server closed the connection")
        self.buffer += piece

    def take(self, size):
        while len(self.buffer) < size:
            self.more()
        piece, self.buffer = self.buffer[:size], self.buffer[size:]
        return piece

    def read_frame(self):
        first, size = self.take(2)
        if size == 126:
            size = struct.unpack(">H", self.take(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.take(8))[0]
        content = self.take(size)
        opcode = first & 15
        if opcode == 8:
            self.close_code = struct.unpack(">H", content[:2])[0] if len(content) >= 2 else None
            raise EOFError(f"the server closed the WebSocket: {self.close_code} {content[2:]!r}")
        if opcode in (0, 1, 2):
            self.payload += content

    def recv(self, size):
        while not self.payload:
            try:
                self.read_frame()
            except EOFError:
                return b""
        piece, self.payload = self.payload[:size], self.payload[size:]
        return piece

    def sendall(self, content):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(content))
        if len(content) < 126:
            size = bytes([0x80 | len(content)])
        else:
            size = bytes([0x80 | 127]) + struct.pack(">Q", len(content))
        self.stream.sendall(b"\x82" + size + mask + masked)

    def close(self):
        self.stream.close()
