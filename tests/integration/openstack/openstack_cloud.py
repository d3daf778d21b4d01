"""The test cloud of devstack/cloud, driven from Python: bring it up once, talk to it, break it.

    cloud = OpenStackCloud.up(compute="kumoi")     # takes what already runs with the same settings
    cloud.openstack("server", "list", "-f", "json")          # the stock client, parsed JSON
    cloud.rest.get("compute", "/servers")                     # plain REST
    cloud.faults.kill("nova-conductor"); cloud.faults.start("nova-conductor")
    cloud.link("kumoi-n1", "rabbit").cut()                    # needs proxy=True

The cloud stays up after a test program, because bringing it up takes a minute; KUMOI_CLOUD_KEEP=0 ends it.
"""
import contextlib
import fcntl
import io
import json
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
DEVSTACK = ROOT / "devstack/cloud"
sys.path.insert(0, str(DEVSTACK / "lib"))
import rest  # noqa: E402

PATIENCE = float(os.environ.get("KUMOI_TEST_PATIENCE", "1"))
ADDRESS = "10.250.0.1"
LOCK = "/run/lock/kumoi-cloud"
NODES = ("kumoi-n1", "kumoi-n2")


class CommandFailed(Exception):
    """One command of the stock client that was refused."""


def skip(reason):
    print(f"SKIP: {reason}")
    sys.exit(77)


def wait_until(condition, seconds, what, interval=0.2):
    return rest.wait_until(condition, seconds * PATIENCE, what, interval)


class Link:
    """The way from one node to one service; verbs as in devstack/cloud/faults/proxy.py."""

    def __init__(self, path, node, service):
        self.path, self.node, self.service = path, node, service

    def _ask(self, *words):
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(20 * PATIENCE)
            control.connect(str(self.path))
            control.sendall(" ".join(str(word) for word in words).encode() + b"\n")
            answer = json.loads(control.makefile().readline())
        if "error" in answer:
            raise AssertionError(f"fault proxy: {answer['error']}")
        return answer

    def restore(self):
        self._ask("pass", self.node, self.service)

    def cut(self):
        self._ask("cut", self.node, self.service)

    def refuse(self):
        self._ask("refuse", self.node, self.service)

    def stall(self):
        self._ask("stall", self.node, self.service)

    def kick(self):
        self._ask("kick", self.node, self.service)

    def slow(self, seconds):
        self._ask("slow", self.node, self.service, seconds)

    def rate(self, bytes_per_second):
        self._ask("rate", self.node, self.service, bytes_per_second)

    def after(self, sent, what):
        self._ask("after", self.node, self.service, sent, what)

    def show(self):
        return [one for one in self._ask("show") if self.node in ("all", one["node"]) and self.service in ("all", one["service"])]


class Faults:
    """Signals to the cloud's processes by name."""

    def _do(self, verb, *names):
        done = subprocess.run([str(DEVSTACK / "faults/service.sh"), verb, *names], capture_output=True, text=True,
                              check=False)
        if done.returncode:
            raise AssertionError(f"service.sh {verb} {' '.join(names)}: {done.stderr.strip()}")
        return done.stdout

    def running(self):
        return dict(line.split() for line in self._do("list").splitlines())

    def __getattr__(self, verb):
        if verb not in ("kill", "stop", "freeze", "thaw", "start", "restart"):
            raise AttributeError(verb)
        return lambda *names: self._do(verb, *names)


class OpenStackCloud:
    def __init__(self, state):
        self.state = pathlib.Path(state)
        self.ids = json.loads((self.state / "ids.json").read_text())
        self.rest = rest.Cloud(f"http://{ADDRESS}:5000/v3", "admin", "secret", "admin")
        self.faults = Faults()
        for line in (self.state / "openrc").read_text().splitlines():
            os.environ.update(word.split("=", 1) for word in line.split()[1:])

    @classmethod
    def up(cls, **settings):
        """settings: compute, proxy, agents, ... as KUMOI_CLOUD_* in devstack/cloud/settings.sh. What the environment
        says wins. A running cloud is taken when it runs with the same settings, else it is replaced."""
        for name, value in settings.items():
            os.environ.setdefault(f"KUMOI_CLOUD_{name.upper()}", str(int(value) if isinstance(value, bool) else value))
        if os.geteuid() != 0:
            skip("the test cloud makes network namespaces: run as root")
        # One cloud a machine: a second test program waits here until the first has ended.
        cls.lock = open(LOCK, "w")  # pylint: disable=consider-using-with
        fcntl.flock(cls.lock, fcntl.LOCK_EX)
        able = subprocess.run([str(DEVSTACK / "preflight.sh")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        if able.returncode == 77:
            skip(able.stdout.strip().splitlines()[-1])
        if able.returncode:
            raise AssertionError(f"devstack/cloud/preflight.sh failed:\n{able.stdout}")
        state = pathlib.Path(os.environ.get("KUMOI_CLOUD_STATE", "/var/lib/kumoi-cloud"))
        wanted = "".join(f"{name}={value}\n" for name, value in sorted(os.environ.items())
                         if name.startswith("KUMOI_CLOUD_") and name not in ("KUMOI_CLOUD_KEEP", "KUMOI_CLOUD_LOCKED"))
        told = state / "settings"
        if told.exists() and told.read_text() != wanted:
            cls.down(wipe=True)
        state.mkdir(parents=True, exist_ok=True)
        told.write_text(wanted)
        done = subprocess.run([str(DEVSTACK / "up.sh")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        if done.returncode:
            raise AssertionError(f"devstack/cloud/up.sh failed:\n{done.stdout}")
        return cls(state)

    @staticmethod
    def has_guests():
        """Whether servers are virtual machines here, with a kernel that boots."""
        driver = os.environ.get("KUMOI_CLOUD_KUMOI_DRIVER", "kumoi" if os.path.exists("/dev/kvm") else "simulated")
        return os.environ.get("KUMOI_CLOUD_COMPUTE") == "kumoi" and driver == "kumoi"

    @staticmethod
    def down(wipe=False):
        subprocess.run([str(DEVSTACK / "down.sh"), *(["--wipe"] if wipe else [])], check=False)

    def release(self):
        if os.environ.get("KUMOI_CLOUD_KEEP", "1") == "0":
            self.down(wipe=True)

    def openstack(self, *argv):
        """One command of the stock client, in this process: loading it takes longer than most commands."""
        status, out, err = self._run(argv)
        if status:
            raise CommandFailed(f"openstack {' '.join(argv)}: status {status}\n{out}\n{err}")
        return json.loads(out) if "json" in argv else out

    @staticmethod
    def _run(argv):
        from openstackclient import shell
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = shell.main(list(argv))
            except SystemExit as end:
                status = end.code
        return status, out.getvalue(), err.getvalue()

    def link(self, node, service):
        return Link(self.state / "run/proxy.sock", node, service)

    def in_node(self, node, *command, **options):
        """Runs a command with a node's network; returns what it printed."""
        done = subprocess.run([str(DEVSTACK / "lib/in-namespace.sh"), node, *command], capture_output=True, text=True,
                              timeout=60 * PATIENCE, check=False, **options)
        if done.returncode:
            raise AssertionError(f"{node}: {' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def manage(self, *words):
        """nova-manage of the control plane."""
        return self.in_node("kumoi-control", "nova-manage", "--config-file", str(self.state / "etc/nova/nova.conf"), *words)

    def server(self, server_id):
        return self.rest.get("compute", f"/servers/{server_id}")["server"]

    def wait_status(self, server_id, status, seconds=60):
        def reached():
            server = self.server(server_id)
            if server["status"] == "ERROR" and status != "ERROR":
                raise AssertionError(f"server {server_id}: {server.get('fault')}")
            return server if server["status"] == status and server["OS-EXT-STS:task_state"] is None else None
        return wait_until(reached, seconds, f"server {server_id} is {status}")

    def wait_gone(self, server_id, seconds=60):
        def gone():
            try:
                self.server(server_id)
                return False
            except rest.Refused as refused:
                return refused.status == 404
        wait_until(gone, seconds, f"server {server_id} is gone")
