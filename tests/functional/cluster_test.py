#!/usr/bin/python3
"""A standalone cloud of three nodes over RabbitMQ, with the simulated driver and the stock openstack client."""
import json
import os
import subprocess
import unittest

from cloud import CLI, wait_until
from cluster import Cluster

# A guest of 512 MiB (which "uses" a third) takes about two seconds to copy.
SOON = """DEFAULT service_down_time = 6
DEFAULT report_interval = 1
DEFAULT update_resources_interval = 1
simulated migration_bandwidth = 512"""


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
        os_("flavor", "create", "m1.tiny", "--vcpus", "1", "--ram", "512", "--disk", "1", "-f", "json")
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

    def kumoi(self, *argv, status=0):
        """stdout of one run of the kumoi client; what it said in self.said."""
        names = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
        run = subprocess.run([str(CLI), "--state-path", str(self.cloud.state), *argv], env=names, timeout=120,
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        self.said = run.stderr
        self.assertEqual(run.returncode, status, f"{argv}: {run.stdout}\n{run.stderr}\n{self.cluster.logs()}")
        return run.stdout

    def test_live_migration_there_and_back(self):
        server = self.create("alive", "cn-2")
        self.os("server", "migrate", "alive", "--live-migration", "--block-migration", "--wait")
        first = self.show("alive")["OS-EXT-SRV-ATTR:host"]
        self.assertIn(first, ("cn-1", "cn-3"))
        self.kumoi("server", "migrate", "alive", "--host", "cn-2")
        self.assertIn("is on cn-2", self.said)
        self.assertIn("MiB left", self.said)
        shown = self.show("alive")
        self.assertEqual((shown["status"], shown["addresses"]), ("ACTIVE", server["addresses"]))
        port = self.os("port", "list", "--server", server["id"], "-f", "json")[0]["ID"]
        self.assertEqual(self.os("port", "show", port, "-f", "json")["binding_host_id"], "cn-2")
        self.assertEqual({one["status"] for one in self.migrations(server)}, {"completed"})
        self.os("server", "reboot", "alive", "--hard", "--wait")  # it is really there

    def test_live_migrations_are_aborted_and_forced(self):
        server = self.create("slow", "cn-1")
        self.kumoi("--no-wait", "server", "migrate", "slow", "--host", "cn-3")
        self.wait_for_migration(server, "running")
        self.kumoi("server", "migration", "abort", "slow")
        self.wait_for(server, status="ACTIVE", host="cn-1", task=None)
        self.assertEqual(self.migrations(server)[0]["status"], "cancelled")
        self.kumoi("server", "migration", "abort", "slow", status=3)
        self.kumoi("--no-wait", "server", "migrate", "slow", "--host", "cn-3")
        self.wait_for_migration(server, "running")
        listed = json.loads(self.kumoi("server", "migration", "list", "slow", "-f", "json"))
        self.assertEqual([one["dest_compute"] for one in listed], ["cn-3"])
        self.kumoi("server", "migration", "force-complete", "slow")
        self.wait_for(server, status="ACTIVE", host="cn-3", task=None)

    def wait_for_migration(self, server, status):
        wait_until(lambda: self.migrations(server)[0]["status"] == status, 20, f"the migration is {status}", 0.05)

    def test_a_host_that_cannot_be_is_refused(self):
        server = self.create("rooted", "cn-1")
        status, _, answer = self.request("POST", f"/servers/{server['id']}/action",
                                         {"os-migrateLive": {"host": "cn-1", "block_migration": "auto"}}, "2.33")
        self.assertEqual(status, 400, answer)
        self.assertIn("to current host", json.dumps(answer))
        self.kumoi("server", "migrate", "rooted", "--host", "mars", status=2)

    def test_maintenance_empties_a_host(self):
        running = [self.create(f"busy-{number}", "cn-2") for number in range(2)]
        stopped = self.create("idle", "cn-2")
        self.os("server", "stop", "idle")
        self.wait_for(stopped, status="SHUTOFF", task=None)
        plan = json.loads(self.kumoi("host", "maintenance", "enter", "cn-2", "--dry-run", "-f", "json"))
        self.assertEqual(sorted(one["plan"] for one in plan if one["name"].startswith(("busy", "idle"))),
                         ["cold migration", "live migration", "live migration"])
        self.addCleanup(self.kumoi, "host", "maintenance", "leave", "cn-2")
        done = json.loads(self.kumoi("host", "maintenance", "enter", "cn-2", "--reason", "fans", "-f", "json"))
        self.assertTrue(all(one["state"] == "moved" for one in done), done)
        self.assertIn("cn-2 is empty and takes no new servers", self.said)
        for server in running:
            self.wait_for(server, status="ACTIVE", task=None)
        self.wait_for(stopped, status="SHUTOFF", task=None)
        self.cloud.run("server", "create", "unwanted", "--wait", "--image", "tiny", "--flavor", "m1.tiny", "--network",
                       "private", "--availability-zone", "nova:cn-2", check=False)
        self.assertIn("No valid host", self.show("unwanted")["fault"]["message"])
        self.cloud.run("server", "delete", "--wait", "unwanted", check=False)
        self.kumoi("host", "maintenance", "status", "cn-2")
        self.assertIn("kumoi maintenance: fans", self.said)
        self.kumoi("host", "maintenance", "leave", "cn-2")
        services = self.os("compute", "service", "list", "--host", "cn-2", "-f", "json")
        self.assertEqual([one["Status"] for one in services], ["enabled"])

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
