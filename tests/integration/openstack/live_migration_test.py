#!/usr/bin/python3
"""Servers that move between the two kumoi hosts of devstack/cloud while they run: there and back, with a port and a volume,
aborted, forced, refused, deleted on the way, and with a host that is killed meanwhile. Runs with real guests and with simulated
ones (KUMOI_CLOUD_KUMOI_DRIVER=simulated)."""
import json
import os
import pathlib
import socket
import sys
import tempfile
import time
import unittest
import urllib.parse

from openstack_cloud import ADDRESS, NODES, PATIENCE, OpenStackCloud, rest, wait_until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "support"))
import websocket_client  # noqa: E402

CLOUD = None
ENDS = ("completed", "failed", "cancelled", "error")
SLOW_MIB = 2  # a second: what is aborted or forced must still be on its way


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    extra = pathlib.Path(tempfile.gettempdir()) / "kumoi-cloud-live.conf"
    extra.write_text(f"[libvirt]\nlive_migration_bandwidth = {SLOW_MIB}\nlive_migration_downtime = 100\n"
                     "[simulated]\nshared_storage = true\n")
    os.environ.setdefault("KUMOI_CLOUD_NOVA_CONF", str(extra))
    CLOUD = OpenStackCloud.up(compute="kumoi")
    unittest.addModuleCleanup(CLOUD.release)


class LiveMigration(unittest.TestCase):
    def action(self, server, body):
        CLOUD.rest.request("POST", "compute", f"/servers/{server}/action", body)

    def providers(self, consumer):
        names = {one["uuid"]: one["name"] for one in CLOUD.rest.get("placement", "/resource_providers")["resource_providers"]}
        return sorted(names[one] for one in CLOUD.rest.get("placement", f"/allocations/{consumer}")["allocations"])

    def migration(self, server):
        all_of_it = CLOUD.rest.get("compute", f"/os-migrations?instance_uuid={server}")["migrations"]
        return max(all_of_it, key=lambda one: one["id"], default={"status": None})

    def create(self, node=NODES[0], networks="none", image="image"):
        server = CLOUD.rest.post("compute", "/servers", {"server": {
            "name": "live", "flavorRef": CLOUD.ids["m1.nano"], "imageRef": CLOUD.ids[image], "host": node,
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

    def host(self, server):
        return CLOUD.server(server)["OS-EXT-SRV-ATTR:host"]

    def guests(self, server):
        """The hosts on which a process runs this server's guest."""
        found = set()
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"kumoi-vmm"):
                line = b" ".join(words).decode()
                found |= {node for node in NODES if f"{CLOUD.state / node}/instances/{server}" in line}
        return sorted(found)

    def start(self, server, to=None):
        self.action(server, {"os-migrateLive": {"host": to, "block_migration": "auto"}})

    def wait_migration(self, server, status, seconds=240):
        def reached():
            now = self.migration(server)["status"]
            self.assertTrue(now == status or now not in ENDS, f"the live migration of {server} is {now}, not {status}")
            return now == status
        wait_until(reached, seconds, f"the live migration of {server} is {status}")

    def complete(self, server):
        """A guest may write more than so slow a link carries: then it is forced after a while."""
        deadline = time.monotonic() + 30
        wait_until(lambda: self.migration(server)["status"] in ENDS or time.monotonic() > deadline, 60, "the guest is on its way")
        now = self.migration(server)
        if now["status"] == "running":
            self.action_of(server, now["id"], {"force_complete": None})
        self.wait_migration(server, "completed")

    def action_of(self, server, migration, body):
        try:
            CLOUD.rest.request("POST", "compute", f"/servers/{server}/migrations/{migration}/action", body)
        except rest.Refused as refused:  # it has ended just now
            self.assertIn(refused.status, (400, 404))

    def assert_on(self, server, node, status="ACTIVE"):
        """There alone, free, with one allocation and its ports."""
        CLOUD.wait_status(server, status, 240)
        self.assertEqual(self.host(server), node)
        self.assertEqual(self.providers(server), [node])
        migration = self.migration(server).get("uuid")
        if migration:
            wait_until(lambda: self.providers(migration) == [], 60, "the migration holds nothing any more")
        for port in CLOUD.rest.get("network", f"/ports?device_id={server}")["ports"]:
            self.assertEqual(port["binding:host_id"], node)
            self.assertNotIn("migrating_to", port["binding:profile"])
            bindings = CLOUD.rest.get("network", f"/ports/{port['id']}/bindings")["bindings"]
            self.assertEqual([one["host"] for one in bindings], [node])
        if CLOUD.has_guests():
            wait_until(lambda: self.guests(server) == [node], 60, f"the guest runs on {node} alone")

    def test_there_and_back_with_a_port(self):
        server = self.create(networks=CLOUD.ids["private"])
        for source, destination in (NODES, NODES[::-1]):
            self.assert_on(server, source)
            self.start(server, destination if source == NODES[1] else None)
            self.complete(server)
            self.assert_on(server, destination)
            migration = self.migration(server)
            self.assertEqual((migration["source_compute"], migration["dest_compute"], migration["migration_type"]),
                             (source, destination, "live-migration"))
        events = CLOUD.openstack("server", "event", "list", server, "-f", "json")
        self.assertIn("live-migration", {one["Action"] for one in events})

    def answers(self, server, word):
        """What is typed on its serial console, through nova-serialproxy, comes back."""
        shown = CLOUD.rest.post("compute", f"/servers/{server}/remote-consoles",
                                {"remote_console": {"protocol": "serial", "type": "serial"}})
        url = urllib.parse.urlsplit(shown["remote_console"]["url"])
        with socket.create_connection((ADDRESS, url.port), 60 * PATIENCE) as stream:
            line = websocket_client.WebSocket(stream, f"{ADDRESS}:{url.port}", f"/?{url.query}", ["binary"],
                                              [("Origin", f"http://{ADDRESS}:{url.port}")])
            line.sendall(word + b"\n")
            seen = b""
            while word not in seen:
                piece = line.recv(65536)
                self.assertTrue(piece, f"closed after {seen[-300:]!r}")
                seen += piece

    def test_its_console_goes_along(self):
        """As tempest's test of it, which cannot send in Python 3; and its log."""
        if not CLOUD.has_guests() or "image_micro" not in CLOUD.ids:
            self.skipTest("no guest that echoes")
        first, second = (self.create(node, image="image_micro") for node in NODES)
        for server in (first, second):
            wait_until(lambda server=server: "server ready" in self.log(server), 60, "the guest is up")
        self.answers(first, b"before")
        self.answers(second, b"neighbour")
        self.start(first, NODES[1])
        self.complete(first)
        self.assert_on(first, NODES[1])
        self.answers(first, b"after")
        self.answers(second, b"neighbour")
        log = self.log(first)
        for word in ("server line 1 of", "server ready", "before", "after"):
            self.assertIn(word, log)

    def log(self, server):
        return CLOUD.rest.post("compute", f"/servers/{server}/action", {"os-getConsoleOutput": {}})["output"]

    def test_a_paused_server_arrives_paused(self):
        server = self.create()
        self.action(server, {"pause": None})
        CLOUD.wait_status(server, "PAUSED", 60)
        self.start(server)
        self.complete(server)
        self.assert_on(server, NODES[1], "PAUSED")
        self.action(server, {"unpause": None})
        CLOUD.wait_status(server, "ACTIVE", 60)

    def new_volume(self):
        if os.environ.get("KUMOI_CLOUD_CINDER", "1") == "0":
            self.skipTest("this cloud has no volumes")
        volume = CLOUD.rest.post("volumev3", "/volumes", {"volume": {"size": 1, "name": "live"}})["volume"]["id"]
        self.addCleanup(self.remove_volume, volume)
        wait_until(lambda: self.volume(volume)["status"] == "available", 120, "the volume is there")
        return volume

    def attach(self, server, volume):
        CLOUD.rest.post("compute", f"/servers/{server}/os-volume_attachments", {"volumeAttachment": {"volumeId": volume}})
        wait_until(lambda: self.volume(volume)["status"] == "in-use", 120, "the volume is attached")

    def assert_attached(self, volume, server, node):
        attachments = self.volume(volume)["attachments"]
        self.assertEqual([(one["server_id"], one["host_name"]) for one in attachments], [(server, node)])

    def test_its_volume_goes_along(self):
        volume = self.new_volume()
        server = self.create()
        self.attach(server, volume)
        self.start(server)
        self.complete(server)
        self.assert_on(server, NODES[1])
        self.assert_attached(volume, server, NODES[1])
        if CLOUD.has_guests():  # this image's kernel plugs nothing
            self.remove(server)
        else:
            CLOUD.rest.delete("compute", f"/servers/{server}/os-volume_attachments/{volume}")
        wait_until(lambda: self.volume(volume)["status"] == "available", 120, "the volume is detached")

    def volume(self, volume):
        return CLOUD.rest.get("volumev3", f"/volumes/{volume}")["volume"]

    def remove_volume(self, volume):
        wait_until(lambda: self.volume(volume)["status"] == "available", 120, "the volume is free")
        CLOUD.rest.delete("volumev3", f"/volumes/{volume}")

    # One that takes its time.
    def running(self, volume=None):
        server = self.create(networks=CLOUD.ids["private"])
        if volume:
            self.attach(server, volume)
        self.start(server)
        self.wait_migration(server, "running", 120)
        listed = CLOUD.openstack("server", "migration", "list", "--server", server, "-f", "json")
        self.assertEqual(len(listed), 1)
        return server, str(self.migration(server)["id"])

    @staticmethod
    def copies(server, migration):
        shown = CLOUD.rest.get("compute", f"/servers/{server}/migrations/{migration}")["migration"]
        return (shown["memory_total_bytes"] or 0) > 0

    def test_progress_is_shown_and_it_is_forced(self):
        server, migration = self.running()
        wait_until(lambda: self.copies(server, migration), 60, "progress is recorded")
        self.assertEqual(CLOUD.openstack("server", "migration", "show", server, migration, "-f", "json")["Status"], "running")
        CLOUD.openstack("server", "migration", "force", "complete", server, migration)
        self.wait_migration(server, "completed", 120)
        self.assert_on(server, NODES[1])

    def test_one_with_a_volume_is_aborted(self):
        volume = self.new_volume()
        server, migration = self.running(volume)
        wait_until(lambda: self.copies(server, migration), 60, "progress is recorded")
        CLOUD.openstack("server", "migration", "abort", server, migration)
        self.wait_migration(server, "cancelled", 120)
        self.assert_on(server, NODES[0])
        wait_until(lambda: len(self.volume(volume)["attachments"]) == 1, 60, "the destination's attachment is gone")
        self.assert_attached(volume, server, NODES[0])

    def test_a_second_one_waits_and_is_cancelled(self):
        first, migration = self.running()
        second = self.create()
        self.start(second)
        self.wait_migration(second, "queued", 60)
        CLOUD.openstack("server", "migration", "abort", second, str(self.migration(second)["id"]))
        self.wait_migration(second, "cancelled", 60)
        self.assert_on(second, NODES[0])
        CLOUD.openstack("server", "migration", "abort", first, migration)
        self.wait_migration(first, "cancelled", 120)
        self.assert_on(first, NODES[0])

    def test_a_delete_does_not_wait(self):
        server, _ = self.running()
        self.remove(server)
        self.assertEqual(self.providers(server), [])
        wait_until(lambda: self.guests(server) == [], 60, "no guest is left")

    # Hosts that die.
    def restart(self, node):
        name = f"nova-compute-{node}"
        CLOUD.faults.kill(name)
        CLOUD.faults.start(name)
        wait_until(lambda: CLOUD.rest.get("compute", f"/os-services?binary=nova-compute&host={node}")["services"][0]["state"] ==
                   "up", 120, f"nova-compute of {node} is up")

    def ends_whole(self, server):
        wait_until(lambda: self.migration(server)["status"] in ENDS, 300,
                   "the live migration has ended")
        self.assert_on(server, NODES[1] if self.migration(server)["status"] == "completed" else NODES[0])

    def test_the_source_is_restarted_meanwhile(self):
        server, migration = self.running()
        self.restart(NODES[0])
        if CLOUD.has_guests():  # followed to its end
            self.action_of(server, migration, {"force_complete": None})
        self.ends_whole(server)

    def test_the_destination_is_restarted_meanwhile(self):
        server, migration = self.running()
        self.restart(NODES[1])
        self.action_of(server, migration, {"force_complete": None})  # the guest goes on all the same
        self.ends_whole(server)

    def test_a_stopped_server_is_refused(self):
        server = self.create()
        self.action(server, {"os-stop": None})
        CLOUD.wait_status(server, "SHUTOFF", 120)
        with self.assertRaises(rest.Refused) as refused:
            self.start(server)
        self.assertEqual(refused.exception.status, 409, json.dumps(str(refused.exception)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
