#!/usr/bin/python3
"""A small fleet of simulated hosts in one kumoi-compute, against a real Nova control plane: each is a host of its own
for Nova, Placement and RabbitMQ, servers live on them, and they come back as themselves."""
import signal
import subprocess
import unittest

from fleet import Fleet
from openstack_cloud import DEVSTACK, OpenStackCloud, wait_until

HOSTS = 12
CLOUD = None


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    CLOUD = OpenStackCloud.up(compute="kumoi", proxy=True)
    unittest.addModuleCleanup(CLOUD.release)


class SimulatedFleet(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.fleet = Fleet(CLOUD, "small", HOSTS, "[DEFAULT]\nreport_interval = 5\n[simulated]\nvcpus = 4\n")
        cls.fleet.start()
        cls.addClassCleanup(cls.end_fleet)

    @classmethod
    def end_fleet(cls):
        if cls.fleet.process.poll() is None:
            cls.fleet.end()
        cls.fleet.forget()

    def services(self):
        found = CLOUD.rest.get("compute", "/os-services?binary=nova-compute")["services"]
        return {one["host"]: one["state"] for one in found if one["host"].startswith("small-")}

    def providers(self):
        found = CLOUD.rest.get("placement", "/resource_providers")["resource_providers"]
        return {one["name"]: one["uuid"] for one in found if one["name"].startswith("small-")}

    def create(self, name, host):
        server = CLOUD.openstack("--os-compute-api-version", "2.74", "server", "create", name, "--flavor", "m1.nano", "--image", "tiny",
                                 "--nic", "none", "--host", host, "-f", "json")["id"]
        self.addCleanup(CLOUD.wait_gone, server)
        self.addCleanup(CLOUD.rest.delete, "compute", f"/servers/{server}")
        return server

    def test_each_host_is_one_for_nova_placement_and_the_broker(self):
        names = self.fleet.names()
        self.assertEqual(self.services(), {name: "up" for name in names})
        providers = self.providers()
        self.assertEqual(sorted(providers), names)
        self.assertEqual(len(set(providers.values())), HOSTS)
        for name in names:
            identity = (self.fleet.folder / "fleet" / name / "compute_id").read_text().strip()
            self.assertEqual(identity, providers[name])
        inventory = CLOUD.rest.get("placement", f"/resource_providers/{providers[names[3]]}/inventories")["inventories"]
        self.assertEqual(inventory["VCPU"]["total"], 4)
        queues = subprocess.run(["bash", "-c", f". {DEVSTACK}/settings.sh; . {DEVSTACK}/lib/process.sh; . {DEVSTACK}/lib/services.sh; "
                                 "rabbit_control list_queues name"], capture_output=True, text=True, check=True).stdout.split()
        for name in names:
            self.assertIn(f"compute.{name}", queues)

    def test_threads_do_not_grow_with_hosts(self):
        few = self.fleet.threads()
        other = Fleet(CLOUD, "few", 2)
        other.start()
        self.addCleanup(other.forget)
        self.addCleanup(other.end)
        self.assertLessEqual(abs(other.threads() - few), 4)

    def test_servers_live_on_the_host_that_was_asked_for(self):
        wait_until(lambda: "small-0007" in CLOUD.manage("cell_v2", "list_hosts"), 60, "hosts to be mapped")
        for host in ("small-0002", "small-0007"):
            server = self.create("on-" + host, host)
            active = CLOUD.wait_status(server, "ACTIVE", 120)
            self.assertEqual(active["OS-EXT-SRV-ATTR:host"], host)
            self.assertEqual(list(CLOUD.rest.get("placement", f"/allocations/{server}")["allocations"]),
                             [self.providers()[host]])
            CLOUD.rest.post("compute", f"/servers/{server}/action", {"os-stop": None})
            CLOUD.wait_status(server, "SHUTOFF", 60)

    def test_z_hosts_come_back_as_themselves(self):
        before = self.providers()
        self.assertEqual(self.fleet.end(signal.SIGKILL), -signal.SIGKILL)
        self.fleet.start()
        self.assertEqual(self.providers(), before)
        wait_until(lambda: set(self.services().values()) == {"up"}, 60, "services up again")
        self.assertEqual(self.fleet.end(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
