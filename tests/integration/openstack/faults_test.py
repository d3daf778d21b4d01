#!/usr/bin/python3
"""Broken connections and killed services while servers are built, in the cloud of devstack/cloud with its fault proxy.
KUMOI_CLOUD_COMPUTE=kumoi|python. Afterwards every server is as its owner wanted it and nothing is left."""
import unittest

from openstack_cloud import NODES, OpenStackCloud, wait_until

CLOUD = None


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    CLOUD = OpenStackCloud.up(compute="kumoi", proxy=True)
    unittest.addModuleCleanup(CLOUD.release)


class Faults(unittest.TestCase):
    def setUp(self):
        self.addCleanup(CLOUD.link("all", "all").restore)

    def build(self, node, status="ACTIVE", seconds=180):
        """A server without network on one node, from request to deletion."""
        server = self.request(node)
        CLOUD.wait_status(server, status, seconds)
        self.delete(server)

    def request(self, node):
        server = CLOUD.rest.post("compute", "/servers", {"server": {
            "name": "fault", "flavorRef": CLOUD.ids["m1.nano"], "imageRef": CLOUD.ids["image"], "networks": "none",
            "host": node}})["server"]["id"]
        self.addCleanup(self.delete, server)
        return server

    def delete(self, server):
        try:
            CLOUD.rest.delete("compute", f"/servers/{server}")
        except Exception as refused:  # pylint: disable=broad-except
            self.assertIn(" 404 ", str(refused))
            return
        CLOUD.wait_gone(server, 120)
        self.assertEqual(CLOUD.rest.get("placement", f"/allocations/{server}")["allocations"], {})

    def reported(self, node):
        """When the service of a node was last heard of."""
        return CLOUD.rest.get("compute", f"/os-services?binary=nova-compute&host={node}")["services"][0]["updated_at"]

    def wait_up(self, node, state="up", seconds=120):
        def is_up():
            services = CLOUD.rest.get("compute", f"/os-services?binary=nova-compute&host={node}")["services"]
            return [one["state"] for one in services] == [state]
        wait_until(is_up, seconds, f"nova-compute of {node} is {state}")

    def test_nodes_go_through_the_proxy(self):
        links = {(one["node"], one["service"]): one for one in CLOUD.link("all", "rabbit").show()}
        for node in NODES:
            self.assertGreaterEqual(links[node, "rabbit"]["connections"], 2, node)

    def test_a_broken_broker_connection_is_made_again(self):
        CLOUD.link(NODES[0], "rabbit").kick()
        self.build(NODES[0])

    def test_a_build_over_slow_connections(self):
        CLOUD.link(NODES[0], "all").slow(0.1)
        self.build(NODES[0], seconds=300)

    def test_a_request_while_the_broker_is_unreachable_is_served_afterwards(self):
        CLOUD.link(NODES[1], "rabbit").refuse()
        server = self.request(NODES[1])
        self.build(NODES[0])  # the other node does not notice
        self.assertEqual(CLOUD.server(server)["status"], "BUILD")
        CLOUD.link(NODES[1], "rabbit").restore()
        CLOUD.wait_status(server, "ACTIVE", 180)

    def test_the_broker_is_killed(self):
        CLOUD.faults.kill("rabbit")
        CLOUD.faults.start("rabbit")
        for node in NODES:
            self.wait_up(node)
            self.build(node)

    def test_the_conductor_is_killed(self):
        CLOUD.faults.kill("nova-conductor")
        CLOUD.faults.start("nova-conductor")
        self.build(NODES[0])

    def test_the_compute_service_is_killed(self):
        server = self.request(NODES[0])
        CLOUD.wait_status(server, "ACTIVE", 180)
        CLOUD.faults.kill(f"nova-compute-{NODES[0]}")
        heard = self.reported(NODES[0])
        CLOUD.faults.start(f"nova-compute-{NODES[0]}")
        # A dead service counts as up for a minute, and a request that it finds when it starts is one it has lost.
        wait_until(lambda: self.reported(NODES[0]) != heard, 120, f"nova-compute of {NODES[0]} reports again")
        self.assertEqual(CLOUD.server(server)["status"], "ACTIVE")
        self.build(NODES[0])

    def test_a_frozen_placement_delays_a_build(self):
        CLOUD.faults.freeze("placement")
        self.addCleanup(CLOUD.faults.thaw, "placement")
        server = CLOUD.rest.post("compute", "/servers", {"server": {
            "name": "fault", "flavorRef": CLOUD.ids["m1.nano"], "imageRef": CLOUD.ids["image"],
            "networks": "none"}})["server"]["id"]
        self.addCleanup(self.delete, server)
        self.assertEqual(CLOUD.server(server)["status"], "BUILD")
        CLOUD.faults.thaw("placement")
        CLOUD.wait_status(server, "ACTIVE", 180)


if __name__ == "__main__":
    unittest.main(verbosity=2)
