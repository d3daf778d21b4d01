#!/usr/bin/python3
"""A small fleet of simulated hosts in one kumoi-compute, against a real Nova control plane: each is a host of its own
for Nova, Placement and RabbitMQ, servers live on them, and they come back as themselves."""
import json
import signal
import subprocess
import unittest

import amqp
from fleet import Fleet, broker_login
from openstack_cloud import ADDRESS, DEVSTACK, OpenStackCloud, wait_until

HOSTS = 12
CLOUD = None


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    CLOUD = OpenStackCloud.up(compute="kumoi", proxy=True)
    unittest.addModuleCleanup(CLOUD.release)


class Listener:
    """Copies of the notifications that our hosts send from now on."""

    def __init__(self):
        user, password, vhost = broker_login(CLOUD)
        self.connection = amqp.Connection(host=ADDRESS, userid=user, password=password, virtual_host=vhost, login_method="PLAIN")
        self.connection.connect()
        channel = self.connection.channel()
        queue = channel.queue_declare(exclusive=True, auto_delete=True).queue
        for topic in ("notifications.info", "versioned_notifications.info"):
            channel.queue_bind(queue, "nova", topic)
        channel.basic_consume(queue, no_ack=True, callback=self._take)
        self.heard, self.payloads = [], {}

    def _take(self, message):
        content = json.loads(json.loads(message.body)["oslo.message"])
        payload = content["payload"]
        server = payload.get("instance_id") or payload.get("nova_object.data", {}).get("uuid")
        if "small-" in content["publisher_id"]:
            self.heard.append((server, content["event_type"]))
            self.payloads[content["event_type"]] = payload

    def events(self, server):
        try:
            while True:
                self.connection.drain_events(timeout=0.2)
        except (TimeoutError, OSError):
            pass
        return [event for one, event in self.heard if one == server]

    def end(self):
        self.connection.close()


class SimulatedFleet(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.fleet = Fleet(CLOUD, "small", HOSTS, "[DEFAULT]\nreport_interval = 5\n[simulated]\nvcpus = 4\n"
                          "[oslo_messaging_notifications]\ndriver = messagingv2\n[notifications]\nnotification_format = both\n")
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

    def test_listeners_hear_of_a_servers_life(self):
        wait_until(lambda: "small-0003" in CLOUD.manage("cell_v2", "list_hosts"), 60, "hosts to be mapped")
        heard = Listener()
        self.addCleanup(heard.end)
        server = self.create("heard", "small-0003")
        CLOUD.wait_status(server, "ACTIVE", 120)
        CLOUD.rest.post("compute", f"/servers/{server}/action", {"os-stop": None})
        CLOUD.wait_status(server, "SHUTOFF", 60)
        expected = [f"{prefix}{action}.{phase}" for action in ("create", "power_off") for phase in ("start", "end")
                    for prefix in ("compute.instance.", "instance.")]
        wait_until(lambda: len(heard.events(server)) >= len(expected), 30, f"notifications, of {heard.events(server)}")
        self.assertEqual(sorted(heard.events(server)), sorted(expected))
        payload = heard.payloads["instance.power_off.end"]["nova_object.data"]
        self.assertEqual((payload["uuid"], payload["state"], payload["power_state"], payload["host"]),
                         (server, "stopped", "shutdown", "small-0003"))
        self.assertEqual(payload["flavor"]["nova_object.data"]["name"], "m1.nano")

    def test_z_hosts_come_back_as_themselves(self):
        before = self.providers()
        self.assertEqual(self.fleet.end(signal.SIGKILL), -signal.SIGKILL)
        self.fleet.start()
        self.assertEqual(self.providers(), before)
        wait_until(lambda: set(self.services().values()) == {"up"}, 60, "services up again")
        self.assertEqual(self.fleet.end(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
