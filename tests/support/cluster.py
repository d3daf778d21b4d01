"""A standalone cloud of several nodes on this machine: one controller, members, and a RabbitMQ of the test's own.

    cluster = Cluster(members=2)          # cn-1 is the controller's own node, cn-2 and cn-3 are members
    cluster.start()
    cluster.cloud.openstack("hypervisor", "list", "-f", "json")
    cluster.stop()
"""
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import keeper
from cloud import COMPUTE, Cloud, free_ports, skip, wait_until

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"


class Broker:
    """As tests/support/rabbit_broker.cc starts one: free ports, its own folder, nothing shared."""

    def __init__(self, address="127.0.0.1", prefix=()):
        if not os.path.exists(SERVER):
            skip("no rabbitmq-server")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kumoi-rabbit-"))
        self.port, self.dist, self.epmd = free_ports(3)
        self.url = f"rabbit://guest:guest@{address}:{self.port}/"
        self.address, self.prefix, self.process = address, list(prefix), None
        (self.folder / "mnesia").mkdir()
        (self.folder / "enabled_plugins").write_text("[].\n")
        (self.folder / "env.conf").write_text("")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {address}:{self.port}\nloopback_users = none\nlog.console = false\n"
            "vm_memory_high_watermark.absolute = 512MB\ndisk_free_limit.absolute = 50MB\n")

    def environment(self):
        path = self.folder
        return {**os.environ, "RABBITMQ_NODENAME": f"kumoi{self.port}@localhost",
                "RABBITMQ_DIST_PORT": str(self.dist), "RABBITMQ_BASE": str(path),
                "RABBITMQ_MNESIA_BASE": f"{path}/mnesia", "RABBITMQ_LOG_BASE": f"{path}/log",
                "RABBITMQ_CONFIG_FILE": f"{path}/rabbitmq.conf", "RABBITMQ_ADVANCED_CONFIG_FILE": f"{path}/none",
                "RABBITMQ_CONF_ENV_FILE": f"{path}/env.conf", "HOME": str(path),
                "RABBITMQ_ENABLED_PLUGINS_FILE": f"{path}/enabled_plugins", "RABBITMQ_PID_FILE": f"{path}/pid",
                "ERL_EPMD_PORT": str(self.epmd), "ERL_EPMD_ADDRESS": "127.0.0.1",
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none "
                "-kernel inet_dist_use_interface {127,0,0,1}"}

    def start(self):
        with open(self.folder / "output", "wb") as output:
            self.process = subprocess.Popen(self.prefix + [SERVER], env=self.environment(), start_new_session=True,
                                            stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        wait_until(self._answers, 120, "RabbitMQ answers", 0.1)

    def _answers(self):
        try:
            with socket.create_connection((self.address, self.port), 1) as peer:
                peer.sendall(b"AMQP\x00\x00\x09\x01")
                return peer.recv(1) == b"\x01"
        except OSError:
            return False

    def stop(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for _ in range(50):
            ended = subprocess.run(["epmd", "-port", str(self.epmd), "-kill"], env=self.environment(),
                                   capture_output=True, text=True, check=False)
            if "Killed" in ended.stdout or "Cannot connect" in ended.stdout + ended.stderr:
                break
        shutil.rmtree(self.folder, ignore_errors=True)


class Member:
    """kumoi-compute with mode = member."""

    def __init__(self, host, cloud, broker, options="", address="127.0.0.1", driver="simulated", prefix=()):
        self.host, self.process, self.prefix = host, None, list(prefix)
        self.state = pathlib.Path(tempfile.mkdtemp(prefix=f"kumoi-member-{host}-"))
        password = re.search(r"password: *\"?([^\"\n]+)", (cloud.state / "clouds.yaml").read_text())[1]
        real = "true" if driver == "kumoi" else "false"
        sections = {
            "DEFAULT": f"mode = member\nhost = {host}\nmy_ip = {address}\nstate_path = {self.state}\n"
                       f"compute_driver = {driver}\ntransport_url = {broker.url}\ndebug = true\n"
                       f"log_file = {self.state}/compute.log\n",
            "network": f"real_devices = {real}\n",
            "metrics": f"listen = 127.0.0.1:{free_ports(1)[0]}\n",
            "glance": f"auth_url = {cloud.url('identity')}/v3\nusername = admin\npassword = {password}\n"
                      "project_name = admin\nuser_domain_name = Default\nproject_domain_name = Default\n"}
        for line in options.strip().splitlines():
            section, option = line.split(" ", 1)
            sections[section] = sections.get(section, "") + option.strip() + "\n"
        (self.state / "kumoi.conf").write_text("".join(f"[{name}]\n{body}\n" for name, body in sections.items()))

    def start(self, seconds=60):
        with open(self.state / "out", "ab") as output:
            self.process = subprocess.Popen(
                self.prefix + [str(COMPUTE), "--config-file", str(self.state / "kumoi.conf"), "--pid-file",
                               str(self.state / "pid")],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=keeper.end_with_me)
        keeper.keep(self.state)
        wait_until(lambda: (self.state / "pid").exists() or self._died(), seconds, f"member {self.host} is ready", 0.1)

    def _died(self):
        if self.process.poll() is not None:
            raise AssertionError(f"member {self.host} ended with {self.process.returncode}:\n{self.logs()}")
        return False

    def logs(self):
        return "".join((self.state / name).read_text(errors="replace")[-6000:]
                       for name in ("out", "compute.log") if (self.state / name).exists())

    def kill(self):
        self.process.kill()
        self.process.wait()
        (self.state / "pid").unlink(missing_ok=True)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
        (self.state / "pid").unlink(missing_ok=True)

    def remove(self):
        keeper.let_go(self.state)
        shutil.rmtree(self.state, ignore_errors=True)


class Cluster:
    def __init__(self, members=1, options="", member_options=""):
        self.broker = Broker()
        self.cloud = Cloud(options=f"DEFAULT transport_url = {self.broker.url}\n{options}")
        self.count, self.member_options, self.members = members, member_options or options, []

    def start(self):
        self.broker.start()
        self.cloud.start(60)
        for number in range(2, self.count + 2):
            member = Member(f"cn-{number}", self.cloud, self.broker, self.member_options)
            self.members.append(member)
            member.start()
        wait_until(lambda: len(self.hosts_up()) == self.count + 1, 60, "all nodes are up", 0.3)

    def hosts_up(self):
        rows = self.cloud.openstack("hypervisor", "list", "-f", "json")
        return {row["Hypervisor Hostname"] for row in rows if row["State"] == "up"}

    def stop(self):
        for member in self.members:
            member.stop()
        self.cloud.stop()
        self.broker.stop()

    def remove(self):
        for member in self.members:
            member.remove()
        self.cloud.remove()

    def logs(self):
        return "\n".join([self.cloud.logs()] + [f"== {member.host}\n{member.logs()}" for member in self.members])


def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def enter_own_namespaces(*programs):
    """Starts this program again in a network namespace of its own; skips where a node cannot have devices."""
    if os.environ.get("KUMOI_IN_NAMESPACE"):
        return
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        skip("needs root and /dev/net/tun")
    for program in programs:
        if not shutil.which(program):
            skip(f"no {program}")
    os.environ["KUMOI_IN_NAMESPACE"] = "1"
    os.execvp("unshare", ["unshare", "--net", "--", sys.executable, "-B", *sys.argv])


class TwoHosts:
    """A controller in this network namespace and a member in another, with a cable between them and devices that
    are real. cn-1 is reached at NEAR, cn-2 at FAR; a command with self.prefix runs on cn-2."""

    NEAR, FAR = "10.9.0.1", "10.9.0.2"

    def __init__(self, driver, options=""):
        self.holder = subprocess.Popen(["unshare", "--net", "--", "sleep", "3600"], preexec_fn=keeper.end_with_me)
        self.prefix = ["nsenter", "--net", "-t", str(self.holder.pid), "--"]
        here = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != here, 10, "a namespace")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(self.holder.pid))
        run("ip", "addr", "add", f"{self.NEAR}/24", "dev", "near")
        run("ip", "link", "set", "near", "up")
        run(*self.prefix, "ip", "link", "set", "lo", "up")
        run(*self.prefix, "ip", "addr", "add", f"{self.FAR}/24", "dev", "far")
        run(*self.prefix, "ip", "link", "set", "far", "up")
        self.driver, self.options, self.member = driver, options, None
        self.broker = Broker(self.NEAR)
        self.cloud = Cloud(driver, f"DEFAULT transport_url = {self.broker.url}\nDEFAULT my_ip = {self.NEAR}\n{options}")
        conf = self.cloud.state / "kumoi.conf"
        text = conf.read_text().replace("real_devices = false", "real_devices = true")
        text = text.replace("listen = 127.0.0.1", f"listen = {self.NEAR}")
        conf.write_text(text.replace("[identity]\n", f"[identity]\npublic_host = {self.NEAR}\n"))
        self.cloud.url = lambda service: f"http://{self.NEAR}:{self.cloud.ports[service]}"

    def start(self):
        self.broker.start()
        self.cloud.start(60)
        self.member = Member("cn-2", self.cloud, self.broker, self.options, self.FAR, self.driver, self.prefix)
        conf = self.member.state / "kumoi.conf"
        conf.write_text(conf.read_text().replace("real_devices = false", "real_devices = true"))
        self.member.start()
        wait_until(lambda: len(self.cloud.openstack("hypervisor", "list", "-f", "json")) == 2, 30, "both nodes", 0.5)

    def state(self, host):
        return self.cloud.state if host == "cn-1" else self.member.state

    def tell(self):
        print(self.cloud.logs()[-6000:], self.member.logs()[-6000:] if self.member else "")
        for where in ([], self.prefix):
            print(run(*where, "ip", "-d", "-o", "link"), run(*where, "bridge", "fdb"))

    def stop(self):
        if self.member:
            self.member.stop()
        self.cloud.stop()
        for node in filter(None, (self.member, self.cloud)):  # DHCP servers outlive their node on purpose
            for pid in node.state.glob("network/*/pid"):
                subprocess.run(["kill", pid.read_text().strip()], capture_output=True, check=False)
            node.remove()
        self.broker.stop()
        self.holder.kill()
