#!/usr/bin/python3
"""A standalone cloud of three nodes over RabbitMQ, with the simulated driver and the stock openstack client."""
import json
import os
import unittest

from cloud import wait_until
from cluster import Cluster

SOON = """DEFAULT service_down_time = 6
DEFAULT report_interval = 1
DEFAULT update_resources_interval = 1"""


class ThreeNodes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(members=2, options=SOON)
        cls.addClassCleanup(cls.cluster.remove)
        cls.addClassCleanup(cls.cluster.stop)
        cls.cluster.start()
        cls.cloud = cls.cluster.cloud
        os_ = cls.cloud.openstack
        (cls.cloud.state / "disk.img").write_bytes(os.urandom(1 << 20))
        os_("image", "create", "tiny", "--disk-format", "raw", "--container-format", "bare",
            "--file", str(cls.cloud.state / "disk.img"), "-f", "json")
        os_("flavor", "create", "m1.tiny", "--vcpus", "1", "--ram", "128", "--disk", "1", "-f", "json")
        os_("network", "create", "private", "-f", "json")
        os_("subnet", "create", "v4", "--network", "private", "--subnet-range", "10.0.3.0/24", "-f", "json")
        cls.token = os_("token", "issue", "-f", "json")["id"]

    def os(self, *argv):
        return self.cloud.openstack(*argv)

    def create(self, name, host):
        self.os("server", "create", name, "--wait", "--image", "tiny", "--flavor", "m1.tiny", "--network", "private",
                "--availability-zone", f"nova:{host}")
        self.addCleanup(self.cloud.run, "server", "delete", "--wait", name, check=False)
        return self.show(name)

    def show(self, name):
        return self.os("server", "show", name, "-f", "json")

    def request(self, method, path, body=None, version="2.90"):
        return self.cloud.request("api", method, "/v2.1" + path, body, self.token,
                                  {"OpenStack-API-Version": f"compute {version}"})

    def act(self, server, body, version="2.90"):
        status, _, answer = self.request("POST", f"/servers/{server['id']}/action", body, version)
        self.assertLess(status, 300, answer)

    def migrations(self, server):
        _, _, answer = self.request("GET", f"/os-migrations?instance_uuid={server['id']}")
        return answer["migrations"]

    def wait_for(self, server, seconds=30, **expected):
        names = {"status": "status", "host": "OS-EXT-SRV-ATTR:host", "task": "OS-EXT-STS:task_state"}

        def reached():
            shown = self.request("GET", f"/servers/{server['id']}")[2]["server"]
            return all(shown[names[key]] == value for key, value in expected.items())
        try:
            wait_until(reached, seconds, f"{server['name']} is {expected}", 0.2)
        except AssertionError as error:
            shown = self.request("GET", f"/servers/{server['id']}")[2]["server"]
            raise AssertionError(f"{error}\n{json.dumps(shown)}\n{self.migrations(server)}\n{self.cluster.logs()}")

    def test_servers_live_on_every_node(self):
        addresses = set()
        for host in ("cn-1", "cn-2", "cn-3"):
            server = self.create(f"on-{host}", host)
            self.assertEqual((server["status"], server["OS-EXT-SRV-ATTR:host"]), ("ACTIVE", host))
            addresses.add(str(server["addresses"]))
            self.os("server", "stop", server["id"])
            self.wait_for(server, status="SHUTOFF", task=None)
            self.os("server", "start", server["id"])
            self.wait_for(server, status="ACTIVE", task=None)
            self.os("server", "pause", server["id"])
            self.wait_for(server, status="PAUSED", task=None)
            self.os("server", "unpause", server["id"])
            self.wait_for(server, status="ACTIVE", task=None)
            ports = self.os("port", "list", "--server", server["id"], "--long", "-f", "json")
            shown = self.os("port", "show", ports[0]["ID"], "-f", "json")
            self.assertEqual((shown["binding_host_id"], shown["status"]), (host, "ACTIVE"))
        self.assertEqual(len(addresses), 3)
        self.assertEqual(self.cluster.hosts_up(), {"cn-1", "cn-2", "cn-3"})
        agents = {row["Host"] for row in self.os("network", "agent", "list", "-f", "json")}
        self.assertLessEqual({"cn-1", "cn-2", "cn-3"}, agents)

    def test_an_image_of_a_server_on_a_member(self):
        server = self.create("photo", "cn-2")
        self.os("server", "image", "create", server["id"], "--name", "taken", "--wait")
        self.assertEqual(self.os("image", "show", "taken", "-f", "json")["status"], "active")

    def test_cold_migration_is_confirmed_and_reverted(self):
        server = self.create("mover", "cn-2")
        self.act(server, {"migrate": {"host": "cn-3"}})
        self.wait_for(server, status="VERIFY_RESIZE", host="cn-3", task=None)
        self.act(server, {"revertResize": None})
        self.wait_for(server, status="ACTIVE", host="cn-2", task=None)
        self.act(server, {"migrate": {"host": "cn-1"}})
        self.wait_for(server, status="VERIFY_RESIZE", host="cn-1", task=None)
        self.act(server, {"confirmResize": None})
        self.wait_for(server, status="ACTIVE", host="cn-1", task=None)
        self.assertEqual(self.show("mover")["addresses"], server["addresses"])
        self.assertEqual([one["status"] for one in self.migrations(server)], ["confirmed", "reverted"])

    def test_a_build_that_fails_is_tried_elsewhere(self):
        refused = self.cloud.refused("server", "create", "nowhere", "--image", "tiny", "--flavor", "m1.tiny",
                                     "--network", "private", "--availability-zone", "nova:cn-9")
        self.assertIn("cn-9", refused)

    def test_z_a_dead_node_is_evacuated(self):
        server = self.create("survivor", "cn-3")
        member = self.cluster.members[1]
        member.kill()
        try:
            wait_until(lambda: "cn-3" not in self.cluster.hosts_up(), 30, "cn-3 is seen down", 0.5)
            self.act(server, {"evacuate": {"host": "cn-2"}})
            self.wait_for(server, 60, status="ACTIVE", host="cn-2", task=None)
            self.assertEqual(self.show("survivor")["addresses"], server["addresses"])
        finally:
            member.start()
        wait_until(lambda: "cn-3" in self.cluster.hosts_up(), 30, "cn-3 is back", 0.5)
        self.wait_for(server, status="ACTIVE", host="cn-2", task=None)
        wait_until(lambda: self.migrations(server)[0]["status"] == "completed", 30, "the evacuation is completed", 0.5)


if __name__ == "__main__":
    unittest.main()
