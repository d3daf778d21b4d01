#!/usr/bin/python3
"""A real OpenStack (Zed, Debian's packages) with a compute service of ours or of Nova's in it, driven by the stock
client. Which one: KUMOI_CLOUD_COMPUTE=kumoi|python."""
import json
import os
import pathlib
import subprocess
import unittest

from openstack_cloud import ADDRESS, DEVSTACK, NODES, OpenStackCloud, rest, wait_until

CLOUD = None


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    CLOUD = OpenStackCloud.up(compute="kumoi", proxy=True)
    unittest.addModuleCleanup(CLOUD.release)


class ControlPlane(unittest.TestCase):
    def test_every_service_is_up(self):
        services = CLOUD.openstack("compute", "service", "list", "-f", "json")
        self.assertEqual({(one["Binary"], one["Host"]) for one in services if one["State"] == "up"},
                         {("nova-scheduler", "kumoi-control"), ("nova-conductor", "kumoi-control"),
                          *(("nova-compute", node) for node in NODES)})
        if os.environ.get("KUMOI_CLOUD_CINDER", "1") == "1":
            volumes = CLOUD.openstack("volume", "service", "list", "-f", "json")
            self.assertEqual([one["Binary"] for one in volumes if one["State"] != "up"], [])

    def test_hosts_can_be_mapped_by_hand(self):
        """What an operator runs after adding a host; here the scheduler's periodic task has been faster."""
        found = CLOUD.manage("cell_v2", "discover_hosts", "--verbose")
        self.assertIn("Found 0 unmapped computes in cell", found)
        hosts = CLOUD.manage("cell_v2", "list_hosts")
        for node in NODES:
            self.assertIn(node, hosts)

    def test_a_provider_per_host(self):
        providers = {one["name"]: one["uuid"] for one in CLOUD.rest.get("placement", "/resource_providers")["resource_providers"]}
        for node in NODES:
            inventories = CLOUD.rest.get("placement", f"/resource_providers/{providers[node]}/inventories")["inventories"]
            self.assertLessEqual({"VCPU", "MEMORY_MB", "DISK_GB"}, set(inventories))


class Servers(unittest.TestCase):
    def create(self, name, *words):
        server = CLOUD.openstack("server", "create", name, "--flavor", "m1.nano", "--image", "tiny", *words, "-f", "json")
        self.addCleanup(self.remove, server["id"])
        return server["id"]

    def remove(self, server):
        try:
            CLOUD.rest.delete("compute", f"/servers/{server}")
            CLOUD.wait_gone(server, 300)
        except rest.Refused as refused:
            self.assertEqual(refused.status, 404)

    def allocations(self, consumer):
        return CLOUD.rest.get("placement", f"/allocations/{consumer}")["allocations"]

    def test_a_life_by_the_stock_client(self):
        server = self.create("one", "--network", "private")
        active = CLOUD.wait_status(server, "ACTIVE", 300)
        self.assertIn(active["OS-EXT-SRV-ATTR:host"], NODES)
        self.assertEqual(len(self.allocations(server)), 1)
        ports = CLOUD.rest.get("network", f"/ports?device_id={server}")["ports"]
        self.assertEqual([port["binding:host_id"] for port in ports], [active["OS-EXT-SRV-ATTR:host"]])
        self.assertEqual(ports[0]["binding:vif_type"], "bridge")
        CLOUD.openstack("server", "stop", server)
        CLOUD.wait_status(server, "SHUTOFF", 300)
        CLOUD.openstack("server", "start", server)
        CLOUD.wait_status(server, "ACTIVE", 300)
        events = CLOUD.openstack("server", "event", "list", server, "-f", "json")
        self.assertEqual([one["Action"] for one in reversed(events)], ["create", "stop", "start"])
        CLOUD.openstack("server", "delete", "--wait", server)
        # Nova forgets the server first, then what it used.
        wait_until(lambda: not self.allocations(server), 60, f"nothing is allocated to {server}")
        wait_until(lambda: not CLOUD.rest.get("network", f"/ports?device_id={server}")["ports"], 60, f"{server} has no port")

    def test_a_guest_on_each_host_boots_and_finds_its_network(self):
        """Address by Neutron's DHCP agent, name by its metadata agent: over the TAP of each host, bridges and vxlan."""
        if not CLOUD.has_guests() or os.environ.get("KUMOI_CLOUD_AGENTS") == "0":
            self.skipTest("needs /dev/kvm, kumoi-vmm and Neutron's agents")
        servers = [self.create(f"guest-{node}", "--network", "private", "--host", node) for node in NODES]
        for server, node in zip(servers, NODES):
            address = CLOUD.wait_status(server, "ACTIVE", 300)["addresses"]["private"][0]["addr"]
            console = wait_until(lambda name=server: self.console(name, "kumoi-tiny: ready"), 600, f"the guest on {node} is ready", 2)
            self.assertIn(f"eth0 {address}/20 by DHCP", console)
            self.assertIn(f"hello from guest-{node} (metadata", console)

    def console(self, server, wanted):
        output = CLOUD.rest.post("compute", f"/servers/{server}/action", {"os-getConsoleOutput": {}})["output"]
        return output if wanted in output else None

    def test_each_host_can_be_chosen(self):
        for node in NODES:
            server = self.create(f"on-{node}", "--nic", "none", "--host", node)
            self.assertEqual(CLOUD.wait_status(server, "ACTIVE", 300)["OS-EXT-SRV-ATTR:host"], node)


@unittest.skipIf(os.environ.get("KUMOI_CLOUD_AGENTS") == "0", "the cloud runs without Neutron's agents")
class BridgeAgent(unittest.TestCase):
    """Neutron's own agents wire what stands in the bridge, whoever put it there."""

    def test_a_port_on_each_node_gets_an_address_by_dhcp(self):
        for node in NODES:
            with self.subTest(node):
                self.lease(node)

    def lease(self, node):
        port = CLOUD.rest.post("network", "/ports", {"port": {
            "network_id": CLOUD.ids["private"], "binding:host_id": node, "device_owner": "compute:test"}})["port"]
        self.addCleanup(CLOUD.rest.delete, "network", f"/ports/{port['id']}")
        self.assertEqual(port["binding:vif_type"], "bridge")
        bridge, tap, guest = "brq" + CLOUD.ids["private"][:11], "tap" + port["id"][:11], f"guest-{node}"
        subprocess.run(["ip", "netns", "add", guest], check=True)
        self.addCleanup(subprocess.run, ["ip", "netns", "del", guest], check=False)
        # The guest's end is called eth0; the other end is where a hypervisor's TAP would be.
        CLOUD.in_node(node, "ip", "link", "add", tap, "type", "veth", "peer", "name", "eth0", "address",
                      port["mac_address"], "netns", guest)
        CLOUD.in_node(node, "sh", "-c", f"ip link show {bridge} || ip link add {bridge} type bridge")
        CLOUD.in_node(node, "sh", "-c", f"ip link set {bridge} up; ip link set {tap} master {bridge} up")
        subprocess.run(["ip", "-n", guest, "link", "set", "eth0", "up"], check=True)
        wait_until(lambda: CLOUD.rest.get("network", f"/ports/{port['id']}")["port"]["status"] == "ACTIVE", 180,
                   f"the agent of {node} has wired {tap}")
        lease = subprocess.run(["ip", "netns", "exec", guest, "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-t", "20",
                                "-T", "1", "-s", "/bin/true"], capture_output=True, text=True, check=False)
        self.assertIn(f"lease of {port['fixed_ips'][0]['ip_address']} obtained", lease.stderr + lease.stdout)


@unittest.skipIf(os.environ.get("KUMOI_CLOUD_CINDER") == "0", "the cloud runs without Cinder")
class Volumes(unittest.TestCase):
    """Each backend gives a volume out over its real protocol; qemu-img is the initiator here."""

    def connect(self, backend):
        volume = CLOUD.rest.post("volumev3", "/volumes", {"volume": {
            "size": 1, "volume_type": backend, "imageRef": CLOUD.ids["image"]}})["volume"]["id"]
        self.addCleanup(self.remove, volume)
        wait_until(lambda: CLOUD.rest.get("volumev3", f"/volumes/{volume}")["volume"]["status"] == "available", 300,
                   f"volume on {backend} is there")
        attachment = CLOUD.rest.post("volumev3", "/attachments", {"attachment": {
            "volume_uuid": volume, "instance_uuid": "00000000-0000-0000-0000-000000000001", "connector": {
                "initiator": "iqn.1993-08.org.debian:test", "ip": "10.250.0.11", "host": "kumoi-n1", "multipath": False,
                "platform": "x86_64", "os_type": "linux"}}})["attachment"]
        self.addCleanup(CLOUD.rest.delete, "volumev3", f"/attachments/{attachment['id']}")
        return attachment["connection_info"]

    def remove(self, volume):
        def gone():
            try:
                return CLOUD.rest.get("volumev3", f"/volumes/{volume}") is None
            except rest.Refused as refused:
                return refused.status == 404
        CLOUD.rest.post("volumev3", f"/volumes/{volume}/action", {"os-force_delete": {}})
        wait_until(gone, 300, f"volume {volume} is deleted")
        self.assertNotIn(volume, CLOUD.in_node("kumoi-control", "tgtadm", "--lld", "iscsi", "--op", "show", "--mode", "target"))

    def size_of(self, url):
        done = subprocess.run(["qemu-img", "info", "-f", "raw", "--output=json", url], capture_output=True, text=True,
                              timeout=300, check=False)
        if "Unknown driver" in done.stderr or "Unknown protocol" in done.stderr:
            self.skipTest("qemu-img has no such protocol here: install qemu-block-extra")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["virtual-size"]

    def test_iscsi(self):
        info = self.connect("iscsi")
        self.assertEqual(info["driver_volume_type"], "iscsi")
        portal = f"iscsi://{info['auth_username']}%{info['auth_password']}@{info['target_portal']}"
        self.assertEqual(self.size_of(f"{portal}/{info['target_iqn']}/{info['target_lun']}"), 1 << 30)

    def test_nfs(self):
        info = self.connect("nfs")
        self.assertEqual((info["driver_volume_type"], info["export"]), ("nfs", f"{ADDRESS}:/volumes"))
        self.assertEqual(self.size_of(f"nfs://{ADDRESS}/volumes/{info['name']}"), 1 << 30)


class Faults(unittest.TestCase):
    def test_a_killed_service_is_gone_and_comes_back(self):
        before = CLOUD.faults.running()["nova-scheduler"]
        CLOUD.faults.kill("nova-scheduler")
        self.assertFalse(pathlib.Path(f"/proc/{before}").exists())
        CLOUD.faults.start("nova-scheduler")
        self.assertNotEqual(CLOUD.faults.running()["nova-scheduler"], before)

    def test_names_that_do_not_exist_are_refused(self):
        done = subprocess.run([str(DEVSTACK / "faults/service.sh"), "kill", "nobody"], capture_output=True, check=False)
        self.assertNotEqual(done.returncode, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
