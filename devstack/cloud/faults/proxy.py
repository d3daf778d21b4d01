#!/usr/bin/python3
"""Stands before the services of the cloud, one listening address a node, and breaks their connections on demand.

    proxy.py --socket CONTROL --to 10.250.0.1 --ports rabbit=5672,keystone=5000 kumoi-n1=10.250.0.21 ...

Each line sent to the control socket is one command and gets one line of JSON back:

    pass NODE SERVICE               everything flows (the state at start)
    slow NODE SERVICE SECONDS       each piece is held back that long, in both directions
    rate NODE SERVICE BYTES         at most so many bytes a second, in each direction
    cut NODE SERVICE                open connections are reset, new ones are reset at once
    refuse NODE SERVICE             as cut, but the port is closed: new connections are refused
    stall NODE SERVICE              connections stay open and nothing passes: a dead network, not a dead peer
    kick NODE SERVICE               resets the open connections once; new ones pass
    after NODE SERVICE BYTES WHAT   WHAT (cut, stall or kick) once the node has sent that many bytes more
    show                            per link: its state, open connections, bytes each way

NODE and SERVICE may be `all`.
"""
import argparse
import asyncio
import json
import os
import socket
import struct
import time

PIECE = 65536


class Link:
    """One node's way to one service."""

    def __init__(self, node, service, listen, target):
        self.node, self.service, self.listen, self.target = node, service, listen, target
        self.server = None
        self.connections = set()
        self.sent = self.received = 0
        self.trigger = None  # (bytes that are left, what happens then)
        self.clear()

    def clear(self):
        self.state, self.delay, self.bytes_per_second = "pass", 0.0, 0
        self.flows = asyncio.Event()
        self.flows.set()

    async def open(self):
        if self.server is None:
            self.server = await asyncio.start_server(self.serve, *self.listen, reuse_address=True)

    def close(self):
        if self.server is not None:
            self.server.close()
            self.server = None

    def reset(self):
        for writer in list(self.connections):
            linger = struct.pack("ii", 1, 0)  # close() sends RST
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    async def set(self, state, value=0.0):
        old_flows = self.flows
        self.clear()
        self.trigger = None
        self.state = state if state != "kick" else "pass"
        if state == "slow":
            self.delay = float(value)
        elif state == "rate":
            self.bytes_per_second = max(1, int(value))
        elif state == "stall":
            self.flows.clear()
        if state in ("cut", "refuse", "kick"):
            self.reset()
        if state == "refuse":
            self.close()
        else:
            await self.open()
        old_flows.set()  # who waited looks at the new state

    async def serve(self, reader, writer):
        if self.state == "cut":
            self.connections.add(writer)
            self.reset()
            self.connections.discard(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:  # the service is down; its clients see what they would see without us
            self.connections.add(writer)
            self.reset()
            self.connections.discard(writer)
            return
        ends = {writer, far_writer}
        self.connections |= ends
        try:
            await asyncio.gather(self.pump(reader, far_writer, True), self.pump(far_reader, writer, False))
        finally:
            self.connections -= ends
            for end in ends:
                end.close()

    async def pump(self, reader, writer, outwards):
        try:
            while piece := await reader.read(PIECE):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if self.bytes_per_second:
                    await asyncio.sleep(len(piece) / self.bytes_per_second)
                if outwards:
                    await self.count(len(piece))
                while not self.flows.is_set():
                    await self.flows.wait()
                writer.write(piece)
                await writer.drain()
                self.received += 0 if outwards else len(piece)
            if writer.can_write_eof():
                writer.write_eof()
        except (OSError, RuntimeError):  # reset by the other direction
            writer.transport.abort()

    async def count(self, size):
        self.sent += size
        if self.trigger is not None:
            left, what = self.trigger
            self.trigger = (left - size, what)
            if left - size <= 0:
                await self.set(what)

    def shown(self):
        return {"node": self.node, "service": self.service, "state": self.state, "connections": len(self.connections) // 2,
                "sent": self.sent, "received": self.received}


class Proxy:
    def __init__(self, nodes, ports, target):
        self.links = [Link(node, service, (address, port), (target, port))
                      for node, address in nodes for service, port in ports]

    def chosen(self, node, service):
        found = [link for link in self.links if node in ("all", link.node) and service in ("all", link.service)]
        if not found:
            raise ValueError(f"no link {node} {service}")
        return found

    async def obey(self, words):
        verb, *rest = words
        if verb == "show":
            return [link.shown() for link in self.links]
        links = self.chosen(*rest[:2])
        if verb == "after":
            size, what = int(rest[2]), rest[3]
            if what not in ("cut", "stall", "kick"):
                raise ValueError(f"after ... {what}: cut, stall or kick")
            for link in links:
                link.trigger = (size, what)
        elif verb in ("pass", "slow", "rate", "cut", "refuse", "stall", "kick"):
            for link in links:
                await link.set(verb, *rest[2:3])
        else:
            raise ValueError(f"no command {verb}")
        return {"done": len(links), "at": time.time()}

    async def control(self, reader, writer):
        while line := await reader.readline():
            try:
                answer = await self.obey(line.decode().split())
            except (ValueError, IndexError, OSError, TypeError) as wrong:
                answer = {"error": str(wrong)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def run(self, path):
        for link in self.links:
            await link.open()
        if os.path.exists(path):
            os.unlink(path)
        server = await asyncio.start_unix_server(self.control, path)
        async with server:
            await server.serve_forever()


def pairs(text):
    return [(name, int(value)) for name, value in (part.split("=") for part in text.split(","))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--ports", required=True, type=pairs)
    parser.add_argument("nodes", nargs="+", type=lambda text: tuple(text.split("=")))
    words = parser.parse_args()
    asyncio.run(Proxy(words.nodes, words.ports, words.to).run(words.socket))


if __name__ == "__main__":
    main()
