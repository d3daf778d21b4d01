#!/usr/bin/env python3
"""A kumoi-vmm that has no guest: the control socket and the verbs of live migration, for tests of those who use them.

Started as kumoi-vmm is. What it says to migrate_status is in fake.json beside guest.json, if that is there; else what the
verbs made of it. Each request goes as a line into fake.log, with how many descriptors came along.
"""
import json
import os
import socket
import sys
import threading

ENDS = {"owner": ("completed", "Released"), "declined": ("failed", "Kept"),
        "committed": ("completed", "Owner"), "aborted": ("failed", "Declined")}


class Machine:
    def __init__(self, folder, incoming):
        self.folder, self.incoming = folder, incoming
        self.status = {"phase": "none"}
        self.kept = []  # descriptors, as a migration keeps its connections and its journal
        self.lock = threading.Lock()

    def answer(self, method, params, descriptors):
        with open(os.path.join(self.folder, "fake.log"), "a") as log:
            log.write(json.dumps({"method": method, "params": params, "fds": len(descriptors)}) + "\n")
        if method == "hello":
            return {"pid": os.getpid()}
        if method == "state":
            return {"state": "incoming" if self.incoming else "running"}
        if method in ("migrate", "migrate_incoming"):
            self.kept = descriptors
            handover = "Loading" if self.incoming else "Copying"
            self.status = {"phase": "copying", "handover": handover}
        elif method == "migrate_verdict" and params["view"] == "fenced":
            if self.incoming:
                self.change("completed", "Owner")
            elif params["lease_epoch"] == 1:  # the source's
                self.change("failed", "Kept")
            else:
                self.change("superseded", "Superseded")
        elif method == "migrate_verdict":
            self.change(*ENDS[params["view"]])
        elif method == "migrate_cancel":
            self.change("cancelled", "Kept")
        elif method == "migrate_status":
            return self.told()
        return {}

    def change(self, phase, handover):
        self.status = {"phase": phase, "handover": handover}
        path = os.path.join(self.folder, "fake.json")
        if os.path.exists(path):
            os.unlink(path)

    def told(self):
        try:
            with open(os.path.join(self.folder, "fake.json")) as file:
                return json.load(file)
        except FileNotFoundError:
            return self.status


def serve(machine, client):
    buffer, descriptors = b"", []
    while True:
        piece, more, _, _ = socket.recv_fds(client, 65536, 64)
        if not piece:
            return
        buffer += piece
        descriptors += more
        while b"\n" in buffer:
            line, buffer = buffer.split(b"\n", 1)
            request = json.loads(line)
            if request["method"] == "quit":
                client.sendall(json.dumps({"id": request["id"], "result": {}}).encode() + b"\n")
                os._exit(0)
            with machine.lock:
                result = machine.answer(request["method"], request.get("params", {}), descriptors)
            descriptors = []
            client.sendall(json.dumps({"id": request["id"], "result": result}).encode() + b"\n")


def main():
    with open(sys.argv[sys.argv.index("--config") + 1]) as file:
        config = json.load(file)
    path = config["control_socket"]
    machine = Machine(os.path.dirname(path), "--incoming" in sys.argv)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(16)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=serve, args=(machine, client), daemon=True).start()


main()
