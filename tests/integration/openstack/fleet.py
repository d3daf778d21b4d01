"""One `kumoi-compute --fleet` in the test cloud, and what it costs."""
import os
import pathlib
import signal
import subprocess

from openstack_cloud import DEVSTACK, ROOT, wait_until

BUILD = pathlib.Path(os.environ.get("KUMOI_BUILD", ROOT / "build/release"))


class Fleet:
    """One kumoi-compute --fleet in the network namespace of kumoi-n1, with that node's nova.conf."""

    def __init__(self, cloud, name, hosts, extra=""):
        self.cloud, self.name, self.hosts = cloud, name, hosts
        self.folder = self.cloud.state / name
        self.log = self.cloud.state / "log" / f"{name}.log"
        self.extra = self.cloud.state / f"{name}.conf"
        self.extra.write_text(f"""[DEFAULT]
mode = openstack
compute_driver = simulated
host = {name}
state_path = {self.folder}
log_file = {self.log}
[metrics]
listen = 127.0.0.1:0
{extra}""")
        self.process = None

    def start(self, seconds=240):
        seen = self.log.read_text().count("all hosts serve") if self.log.exists() else 0
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [str(DEVSTACK / "lib/in-namespace.sh"), "kumoi-n1", str(BUILD / "bin/kumoi-compute"), "--config-file",
             str(self.cloud.state / "etc/kumoi-n1/nova.conf"), "--config-file", str(self.extra), "--fleet", str(self.hosts)],
            env={**os.environ, "KUMOI_CLOUD_STATE": str(self.cloud.state)})

        def all_serve():
            if self.process.poll() is not None:
                raise AssertionError(f"the fleet ended with status {self.process.returncode}")
            return self.log.exists() and self.log.read_text().count("all hosts serve") > seen
        wait_until(all_serve, seconds, "every host of the fleet to serve")

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(60)

    def threads(self):
        return len(list(pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()))

    def names(self):
        return [f"{self.name}-{number:04}" for number in range(1, self.hosts + 1)]

    def forget(self):
        """Its services, and with them their resource providers, so that no later test meets hosts that are down."""
        for one in self.cloud.rest.get("compute", "/os-services?binary=nova-compute")["services"]:
            if one["host"].startswith(f"{self.name}-"):
                self.cloud.rest.delete("compute", f"/os-services/{one['id']}")


def broker_login(cloud):
    """User, password and vhost, from a node's transport_url."""
    text = (cloud.state / "etc/kumoi-n1/nova.conf").read_text().split("transport_url = rabbit://")[1].split("\n")[0]
    user, rest_of_it = text.split(":", 1)
    password, host = rest_of_it.split("@", 1)
    return user, password, host.split("/", 1)[1] or "/"
