"""A kumoi-compute of the test's own: temporary state, free ports, and the stock openstack client.

    cloud = Cloud(driver="simulated")      # or "kumoi" for real guests
    cloud.start()
    servers = cloud.openstack("server", "list", "-f", "json")     # parsed JSON
    cloud.stop()

The client is Debian's python3-openstackclient, run inside this process (its main() per call), because
loading it takes longer than most calls. Needs /usr/bin/python3.
"""
import contextlib
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import keeper  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("KUMOI_BUILD", ROOT / "build/release"))
COMPUTE = BUILD / "bin/kumoi-compute"
VMM = BUILD / "bin/kumoi-vmm"
CLI = BUILD / "bin/kumoi"


class CommandFailed(Exception):
    def __init__(self, argv, status, out, err):
        super().__init__(f"openstack {' '.join(argv)}: status {status}\n{out}\n{err}")
        self.status, self.out, self.err = status, out, err


def free_ports(count):
    """Ports that nobody listens on now; all are held open together, so they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_until(condition, seconds, what, interval=0.02):
    """Polls until condition() is true; real processes have no injected clock. Costly conditions take a
    longer interval, or they starve what they wait for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(interval)
    raise AssertionError(f"not within {seconds} s: {what}")


def enter_own_namespace(*needed):
    """Starts this program again inside a fresh network namespace, which goes when it ends; skips where a real guest
    cannot run there. needed: pairs of a file that must exist, and the reason when it does not."""
    if os.environ.get("KUMOI_IN_NAMESPACE"):
        return
    if not os.access("/dev/kvm", os.W_OK):
        skip("/dev/kvm is missing or not writable")
    if os.geteuid() != 0:
        skip("needs root for the node's network")
    for path, reason in needed:
        if not os.path.exists(path):
            skip(reason)
    os.environ["KUMOI_IN_NAMESPACE"] = "1"
    os.execvp("unshare", ["unshare", "--net", "--", sys.executable, "-B", *sys.argv])


class Cloud:
    def __init__(self, driver="simulated", options="", prefix=(), state=None):
        self.state = pathlib.Path(state or tempfile.mkdtemp(prefix="kumoi-cloud-"))
        self.owns_state = state is None
        self.prefix = list(prefix)  # e.g. ip netns exec NAME
        self.ports = dict(zip(("identity", "api", "image", "network", "metrics", "console"),
                              free_ports(6)))
        self.process = None
        real = "true" if driver == "kumoi" else "false"
        sections = {name: f"listen = 127.0.0.1:{port}\n" for name, port in self.ports.items()
                    if name != "console"}
        sections["vnc"] = f"novncproxy_listen = 127.0.0.1:{self.ports['console']}\n"
        sections["network"] += f"real_devices = {real}\n"
        sections["DEFAULT"] = (f"state_path = {self.state}\nhost = cn-1\ncompute_driver = {driver}\n"
                               f"log_file = {self.state}/compute.log\ndebug = true\n")
        for line in options.strip().splitlines():
            section, option = line.split(" ", 1)
            sections[section] = sections.get(section, "") + option.strip() + "\n"
        text = "".join(f"[{name}]\n{body}\n" for name, body in sections.items())
        (self.state / "kumoi.conf").write_text(text)

    def start(self, seconds=30):
        output = open(self.state / "out", "ab")
        self.process = subprocess.Popen(
            self.prefix + [str(COMPUTE), "--config-file", str(self.state / "kumoi.conf"),
                           "--pid-file", str(self.state / "pid")],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            preexec_fn=keeper.end_with_me)
        keeper.keep(self.state)
        output.close()
        wait_until(lambda: self._answers() or self._died(), seconds, "kumoi-compute answers")
        os.environ["OS_CLIENT_CONFIG_FILE"] = str(self.state / "clouds.yaml")
        os.environ["OS_CLOUD"] = "kumoi"

    def _answers(self):
        return (self.state / "pid").exists() and (self.state / "pid").read_text().strip() == str(self.process.pid)

    def _died(self):
        if self.process.poll() is not None:
            raise AssertionError(f"kumoi-compute ended with {self.process.returncode}:\n{self.logs()}")
        return False

    def logs(self):
        return "".join((self.state / name).read_text(errors="replace")[-6000:]
                       for name in ("out", "compute.log") if (self.state / name).exists())

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=30):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(seconds)
        return self.process.returncode if self.process else None

    def remove(self):
        """Also ends guests that a failed test left: they outlive kumoi-compute on purpose."""
        keeper.let_go(self.state)
        if self.owns_state:
            shutil.rmtree(self.state, ignore_errors=True)

    def url(self, service):
        return f"http://127.0.0.1:{self.ports[service]}"

    def run(self, *argv, check=True):
        """(status, stdout, stderr) of one openstack command."""
        from openstackclient import shell
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = shell.main(list(argv))
            except SystemExit as end:
                status = end.code
        if check and status:
            raise CommandFailed(argv, status, out.getvalue(), err.getvalue() + self.logs())
        return status, out.getvalue(), err.getvalue()

    def openstack(self, *argv):
        """Runs a command; parses its output when -f json was asked for."""
        _, out, _ = self.run(*argv)
        return json.loads(out) if "json" in argv else out

    def refused(self, *argv):
        """The stderr of a command that must fail."""
        status, out, err = self.run(*argv, check=False)
        if not status:
            raise AssertionError(f"openstack {' '.join(argv)} succeeded:\n{out}")
        return err

    def request(self, service, method, path, body=None, token=None, headers=None):
        """(status, headers, parsed body) of one raw REST call."""
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url(service) + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("X-Auth-Token", token)
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, reply.headers, self._parsed(reply.read())
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.headers, self._parsed(refusal.read())

    @staticmethod
    def _parsed(text):
        try:
            return json.loads(text)
        except ValueError:
            return text.decode(errors="replace")


def skip(reason):
    """Ends the whole test program as skipped (ctest's SKIP_RETURN_CODE)."""
    print(f"SKIP: {reason}")
    sys.exit(77)
