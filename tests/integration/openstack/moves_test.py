#!/usr/bin/python3
"""Servers that move between the two kumoi hosts of devstack/cloud: resize and cold migration with confirm and revert, copies
that are cut and hosts that are killed on the way, evacuation. What was written on the disk before is looked for afterwards."""
import glob
import os
import pathlib
import shutil
import subprocess
import time
import unittest

from openstack_cloud import NODES, OpenStackCloud, rest, skip, wait_until

CLOUD = None
MARK, MARK_AT, MARK_SIZE = "0x5a", "600k", "300k"


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    if not shutil.which("qemu-io"):
        skip("qemu-io writes on the servers' disks here: install qemu-utils")
    CLOUD = OpenStackCloud.up(compute="kumoi", proxy=True)
    unittest.addModuleCleanup(CLOUD.release)
    if not CLOUD.has_guests():
        skip("the servers of this cloud have no disks")


def other(node):
    return NODES[1 - NODES.index(node)]


class Moves(unittest.TestCase):
    def setUp(self):
        self.addCleanup(self.start_everything)

    def start_everything(self):
        running = CLOUD.faults.running()
        for node in NODES:
            name = f"nova-compute-{node}"
            subprocess.run(["kill", "-CONT", running.get(name, "0")], check=False, stderr=subprocess.DEVNULL)
            if name not in running:
                CLOUD.faults.start(name)
            self.service(node, {"forced_down": False})
            self.wait_service(node, "up")

    # What is on the hosts.
    def folder(self, node, server, ending=""):
        return CLOUD.state / node / "instances" / (server + ending)

    def disk(self, node, server):
        folder = self.folder(node, server)
        return str(folder / "disk"), "qcow2" if "qcow2" in (folder / "disk.info").read_text() else "raw"

    def qemu_io(self, node, server, command):
        path, kind = self.disk(node, server)
        done = subprocess.run(["qemu-io", "-f", kind, "-c", command, path], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertNotIn("failed", done.stdout)

    def mark(self, node, server):
        self.qemu_io(node, server, f"write -P {MARK} {MARK_AT} {MARK_SIZE}")

    def assert_marked(self, node, server):
        self.qemu_io(node, server, f"read -P {MARK} {MARK_AT} {MARK_SIZE}")

    def guests(self, server):
        """The hosts on which a process runs this server."""
        found = []
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                words = pathlib.Path(path).read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"kumoi-vmm"):
                line = b" ".join(words).decode()
                found += [node for node in NODES if str(self.folder(node, server)) in line]
        return sorted(set(found))

    # What the cloud says.
    def service(self, node, body):
        record = CLOUD.rest.get("compute", f"/os-services?binary=nova-compute&host={node}")["services"][0]
        if record["forced_down"] != body["forced_down"]:
            CLOUD.rest.request("PUT", "compute", f"/os-services/{record['id']}", body)

    def wait_service(self, node, state):
        wait_until(lambda: CLOUD.rest.get("compute", f"/os-services?binary=nova-compute&host={node}")["services"][0]["state"] ==
                   state, 120, f"nova-compute of {node} is {state}")

    def providers(self, consumer):
        names = {one["uuid"]: one["name"] for one in CLOUD.rest.get("placement", "/resource_providers")["resource_providers"]}
        return sorted(names[one] for one in CLOUD.rest.get("placement", f"/allocations/{consumer}")["allocations"])

    def migration(self, server):
        """The newest one of a server; an empty one before conductor has made it."""
        all_of_it = CLOUD.rest.get("compute", f"/os-migrations?instance_uuid={server}")["migrations"]
        return max(all_of_it, key=lambda one: one["id"], default={"status": None})

    def action(self, server, body):
        CLOUD.rest.request("POST", "compute", f"/servers/{server}/action", body)

    def create(self, node, networks="none"):
        server = CLOUD.rest.post("compute", "/servers", {"server": {
            "name": "mover", "flavorRef": CLOUD.ids["m1.nano"], "imageRef": CLOUD.ids["image"], "host": node,
            "networks": networks if networks == "none" else [{"uuid": networks}]}})["server"]["id"]
        self.addCleanup(self.remove, server)
        CLOUD.wait_status(server, "ACTIVE", 180)
        return server

    def remove(self, server):
        try:
            CLOUD.rest.delete("compute", f"/servers/{server}")
        except rest.Refused as refused:
            self.assertEqual(refused.status, 404)
            return
        CLOUD.wait_gone(server, 120)
        for node in NODES:
            wait_until(lambda node=node: not glob.glob(str(self.folder(node, server)) + "*"), 30, f"nothing is left on {node}")

    def stopped(self, node, networks="none"):
        server = self.create(node, networks)
        self.action(server, {"os-stop": None})
        CLOUD.wait_status(server, "SHUTOFF", 120)
        self.mark(node, server)
        return server

    def host(self, server):
        return CLOUD.server(server)["OS-EXT-SRV-ATTR:host"]

    def assert_at_home(self, server, status):
        """On its first host, free, with its disk and one allocation."""
        CLOUD.wait_status(server, status, 180)
        self.assertEqual(self.host(server), NODES[0])
        self.assertEqual(self.providers(server), [NODES[0]])
        self.assertEqual(self.providers(self.migration(server)["uuid"]), [])
        wait_until(lambda: not glob.glob(str(self.folder(NODES[1], server)) + "*"), 30, "the other host has nothing of it")
        self.assertFalse(self.folder(NODES[0], server, "_resize").exists())

    # Resize and cold migration.
    def test_a_running_server_migrates_and_is_confirmed(self):
        server = self.stopped(NODES[0], CLOUD.ids["private"])
        self.action(server, {"os-start": None})
        CLOUD.wait_status(server, "ACTIVE", 120)
        self.action(server, {"migrate": None})
        CLOUD.wait_status(server, "VERIFY_RESIZE", 240)
        self.assertEqual(self.host(server), NODES[1])
        self.assertEqual(self.guests(server), [NODES[1]])
        ports = CLOUD.rest.get("network", f"/ports?device_id={server}")["ports"]
        self.assertEqual([port["binding:host_id"] for port in ports], [NODES[1]])
        migration = self.migration(server)
        self.assertEqual((migration["status"], migration["source_compute"], migration["dest_compute"]),
                         ("finished", NODES[0], NODES[1]))
        self.assertEqual(self.providers(server), [NODES[1]])
        self.assertEqual(self.providers(migration["uuid"]), [NODES[0]])
        self.assertTrue(self.folder(NODES[0], server, "_resize").exists())
        self.action(server, {"confirmResize": None})
        CLOUD.wait_status(server, "ACTIVE", 120)
        self.assertEqual(self.migration(server)["status"], "confirmed")
        self.assertEqual(self.providers(migration["uuid"]), [])
        self.assertEqual(glob.glob(str(self.folder(NODES[0], server)) + "*"), [])
        self.action(server, {"os-stop": None})
        CLOUD.wait_status(server, "SHUTOFF", 120)
        self.assert_marked(NODES[1], server)
        events = CLOUD.openstack("server", "event", "list", server, "-f", "json")
        self.assertLessEqual({"migrate", "confirmResize"}, {one["Action"] for one in events})

    def test_a_resize_is_reverted(self):
        server = self.stopped(NODES[0])
        self.action(server, {"os-start": None})
        CLOUD.wait_status(server, "ACTIVE", 120)
        self.action(server, {"resize": {"flavorRef": CLOUD.ids["m1.micro"]}})
        resized = CLOUD.wait_status(server, "VERIFY_RESIZE", 240)
        self.assertEqual(resized["OS-EXT-SRV-ATTR:host"], NODES[1])
        self.assertEqual(self.guests(server), [NODES[1]])
        self.action(server, {"revertResize": None})
        self.assert_at_home(server, "ACTIVE")
        self.assertEqual(self.guests(server), [NODES[0]])
        self.assertEqual(self.migration(server)["status"], "reverted")
        self.action(server, {"os-stop": None})
        CLOUD.wait_status(server, "SHUTOFF", 120)
        self.assert_marked(NODES[0], server)

    def test_a_stopped_server_is_resized_and_deleted_before_it_is_confirmed(self):
        server = self.stopped(NODES[0])
        self.action(server, {"resize": {"flavorRef": CLOUD.ids["m1.small"]}})
        CLOUD.wait_status(server, "VERIFY_RESIZE", 240)
        self.assertEqual(self.guests(server), [])
        self.assert_marked(NODES[1], server)
        path, _ = self.disk(NODES[1], server)
        self.assertIn('"virtual-size": 2147483648', subprocess.run(
            ["qemu-img", "info", "--output=json", path], capture_output=True, text=True, check=True).stdout)
        migration = self.migration(server)["uuid"]
        self.remove(server)  # looks for leftovers on both
        self.assertEqual(self.providers(server) + self.providers(migration), [])

    # Copies that are cut, hosts that are killed.
    def begin_slow_copy(self):
        """A stopped server with enough on its disk that its copy is caught on the way; returns while it stands still."""
        server = self.stopped(NODES[0])
        path, kind = self.disk(NODES[0], server)
        subprocess.run(["qemu-io", "-f", kind, "-c", "write -P 0xa5 100M 500M", path], check=True, stdout=subprocess.DEVNULL)
        self.action(server, {"migrate": None})
        incoming = self.folder(NODES[1], server, "_incoming") / "disk"

        def is_coming():
            return incoming.exists() and incoming.stat().st_blocks * 512 > 1 << 20
        wait_until(is_coming, 120, "the disk is coming", interval=0.01)
        return server, incoming

    def frozen(self, node):
        pid = CLOUD.faults.running()[f"nova-compute-{node}"]
        os.kill(int(pid), 19)
        return int(pid)

    def finish_copy(self, server):
        CLOUD.wait_status(server, "VERIFY_RESIZE", 300)
        self.assertEqual(self.host(server), NODES[1])
        self.assert_marked(NODES[1], server)
        self.qemu_io(NODES[1], server, "read -P 0xa5 100M 500M")
        self.action(server, {"confirmResize": None})
        CLOUD.wait_status(server, "SHUTOFF", 120)
        self.assertEqual(glob.glob(str(self.folder(NODES[0], server)) + "*"), [])

    def log_of(self, node):
        return (CLOUD.state / "log" / f"nova-compute-{node}.log").read_text(errors="replace")

    def test_a_cut_copy_is_taken_up_again(self):
        server, incoming = self.begin_slow_copy()
        rule = ["OUTPUT", "-p", "tcp", "--sport", "49152:49215", "-j", "REJECT", "--reject-with", "tcp-reset"]
        CLOUD.in_node(NODES[0], "iptables", "-I", *rule)
        time.sleep(2)
        half = incoming.stat().st_blocks if incoming.exists() else None
        CLOUD.in_node(NODES[0], "iptables", "-D", *rule)
        self.finish_copy(server)
        if half is not None:
            self.assertIn("a transfer is taken up again", self.log_of(NODES[1]))

    def test_the_destination_is_killed_while_the_disk_comes(self):
        server, _ = self.begin_slow_copy()
        source = self.frozen(NODES[0])
        CLOUD.faults.kill(f"nova-compute-{NODES[1]}")
        self.assertTrue(self.folder(NODES[0], server, "_resize").exists())
        self.assertFalse(self.folder(NODES[1], server).exists())
        os.kill(source, 18)
        CLOUD.faults.start(f"nova-compute-{NODES[1]}")
        self.finish_copy(server)

    def test_the_source_is_killed_while_the_disk_goes(self):
        server, _ = self.begin_slow_copy()
        destination = self.frozen(NODES[1])
        CLOUD.faults.kill(f"nova-compute-{NODES[0]}")
        os.kill(destination, 18)
        CLOUD.faults.start(f"nova-compute-{NODES[0]}")
        self.finish_copy(server)

    def test_a_destination_that_cannot_take_it_gives_it_back(self):
        server = self.stopped(NODES[0])
        self.action(server, {"os-start": None})
        CLOUD.wait_status(server, "ACTIVE", 120)
        stale = self.folder(NODES[1], server)
        stale.mkdir()
        self.addCleanup(shutil.rmtree, stale, True)
        self.action(server, {"migrate": None})
        wait_until(lambda: self.migration(server)["status"] == "error", 120, "the migration failed")
        wait_until(lambda: self.host(server) == NODES[0], 120, "the server is on its host again")
        self.assertTrue(stale.exists())  # not ours to remove
        stale.rmdir()
        self.assert_at_home(server, "ACTIVE")
        self.assertEqual(self.guests(server), [NODES[0]])
        actions = CLOUD.rest.get("compute", f"/servers/{server}/os-instance-actions")["instanceActions"]
        events = CLOUD.rest.get("compute", f"/servers/{server}/os-instance-actions/{actions[0]['request_id']}")
        self.assertEqual([one["result"] for one in events["instanceAction"]["events"] if one["event"] == "compute_finish_resize"],
                         ["Error"])

    # Evacuation.
    def test_a_server_of_a_dead_host_is_evacuated(self):
        server = self.create(NODES[0], CLOUD.ids["private"])
        CLOUD.faults.kill(f"nova-compute-{NODES[0]}")
        subprocess.run(["pkill", "-9", "-f", str(self.folder(NODES[0], server)) + "/"], check=False)
        self.service(NODES[0], {"forced_down": True})
        self.wait_service(NODES[0], "down")
        self.action(server, {"evacuate": {}})
        wait_until(lambda: self.host(server) == NODES[1], 180, "the server is on the other host")
        CLOUD.wait_status(server, "ACTIVE", 120)
        self.assertEqual(self.guests(server), [NODES[1]])
        ports = CLOUD.rest.get("network", f"/ports?device_id={server}")["ports"]
        self.assertEqual([port["binding:host_id"] for port in ports], [NODES[1]])
        self.assertEqual(self.migration(server)["status"], "done")
        self.assertTrue(self.folder(NODES[0], server).exists())
        CLOUD.faults.start(f"nova-compute-{NODES[0]}")
        wait_until(lambda: not self.folder(NODES[0], server).exists(), 120, "the dead host has removed what it had")
        wait_until(lambda: self.migration(server)["status"] == "completed", 60, "the evacuation is completed")
        self.assertEqual(self.providers(server), [NODES[1]])
        self.assertEqual(self.guests(server), [NODES[1]])


if __name__ == "__main__":
    unittest.main(verbosity=2)
