#!/usr/bin/python3
"""Servers on hosts whose networks are Open vSwitch, wired by Neutron's own agent for it (its data path in user space)."""
import unittest

from openstack_cloud import NODES, OpenStackCloud, skip, wait_until

CLOUD = None


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    CLOUD = OpenStackCloud.up(compute="kumoi", network="ovs", cinder=False, novnc=False)
    unittest.addModuleCleanup(CLOUD.release)
    if not CLOUD.has_guests():
        skip("no guests (/dev/kvm, kumoi-vmm), so nothing to wire")


class OpenVSwitch(unittest.TestCase):
    def vsctl(self, node, *words):
        folder = f"OVS_RUNDIR={CLOUD.state}/ovs-{node}"
        return CLOUD.in_node(node, "env", folder, "ovs-vsctl", "--timeout=30", *words).strip()

    def console(self, server):
        return CLOUD.rest.post("compute", f"/servers/{server}/action", {"os-getConsoleOutput": {}})["output"]

    def remove(self, server):
        CLOUD.rest.delete("compute", f"/servers/{server}")
        CLOUD.wait_gone(server, 300)

    def test_a_server_on_each_host_is_wired_and_let_go(self):
        servers = {}
        for node in NODES:
            servers[node] = CLOUD.rest.post("compute", "/servers", {"server": {
                "name": f"ovs-{node}", "flavorRef": CLOUD.ids["m1.nano"], "imageRef": CLOUD.ids["image"], "host": node,
                "networks": [{"uuid": CLOUD.ids["private"]}]}})["server"]["id"]
            self.addCleanup(self.remove, servers[node])
        for node, server in servers.items():
            CLOUD.wait_status(server, "ACTIVE", 300)  # Neutron has said network-vif-plugged
            port = CLOUD.rest.get("network", f"/ports?device_id={server}")["ports"][0]
            self.assertEqual((port["binding:vif_type"], port["status"]), ("ovs", "ACTIVE"))
            tap = "tap" + port["id"][:11]
            self.assertEqual(self.vsctl(node, "iface-to-br", tap), "br-int")
            self.assertEqual(self.vsctl(node, "get", "Interface", tap, "external_ids:iface-id"), f'"{port["id"]}"')
            self.assertRegex(self.vsctl(node, "get", "Port", tap, "tag"), r"^[1-9]\d*$")  # by the agent
        for node, server in servers.items():
            address = CLOUD.server(server)["addresses"]["private"][0]["addr"]
            wait_until(lambda one=server: "kumoi-tiny: ready" in self.console(one), 600, f"the guest on {node} is ready", 2)
            self.assertIn(f"eth0 {address}/20 by DHCP", self.console(server))
        self.doCleanups()
        for node in NODES:
            self.assertNotIn("tap", self.vsctl(node, "list-ports", "br-int"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
