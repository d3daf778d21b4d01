#!/usr/bin/python3
"""kumoi host maintenance on a kumoi host of a real OpenStack: dry run, drain with several moves at a time, progress, status,
stop with and without abort, leave; with servers that run, are paused, stopped, and have a volume."""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

from openstack_cloud import NODES, PATIENCE, ROOT, OpenStackCloud, rest, wait_until

CLOUD = None
SLOW_MIB = 2  # a second: what is stopped must still be under way


def setUpModule():
    global CLOUD  # pylint: disable=global-statement
    extra = pathlib.Path(tempfile.gettempdir()) / "kumoi-cloud-live.conf"  # as live_migration_test.py has it
    extra.write_text(f"[libvirt]\nlive_migration_bandwidth = {SLOW_MIB}\nlive_migration_downtime = 100\n"
                     "[simulated]\nshared_storage = true\n")
    os.environ.setdefault("KUMOI_CLOUD_NOVA_CONF", str(extra))
    CLOUD = OpenStackCloud.up(compute="kumoi")
    unittest.addModuleCleanup(CLOUD.release)


class Maintenance(unittest.TestCase):
    def setUp(self):
        self.addCleanup(self.leave)

    def leave(self):
        self.kumoi("leave", "--force", check=False)
        self.assertEqual(self.service()["status"], "enabled")

    @staticmethod
    def program():
        build = os.environ.get("KUMOI_BUILD", str(ROOT / "build/release"))
        return [f"{build}/bin/kumoi", "-f", "json", "host", "maintenance"]

    def kumoi(self, verb, *words, check=True):
        done = subprocess.run([*self.program(), verb, NODES[0], *words], capture_output=True, text=True, check=False,
                              timeout=600 * PATIENCE)
        if check:
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done

    def rows(self, *words):
        return {row["id"]: row for row in json.loads(self.kumoi(*words).stdout)}

    @staticmethod
    def service():
        return CLOUD.rest.get("compute", f"/os-services?binary=nova-compute&host={NODES[0]}")["services"][0]

    def create(self, node=NODES[0], **more):
        image = CLOUD.ids.get("image_micro", CLOUD.ids["image"])  # it costs no processor time
        server = CLOUD.rest.post("compute", "/servers", {"server": {
            "name": "drained", "flavorRef": CLOUD.ids["m1.nano"], "imageRef": image, "host": node, "networks": "none",
            **more}})["server"]["id"]
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

    def act(self, server, body, status):
        CLOUD.rest.request("POST", "compute", f"/servers/{server}/action", body)
        CLOUD.wait_status(server, status, 120)

    def host(self, server):
        return CLOUD.server(server)["OS-EXT-SRV-ATTR:host"]

    def on_host(self):
        found = CLOUD.rest.get("compute", f"/servers/detail?all_tenants=1&host={NODES[0]}")["servers"]
        return {one["id"] for one in found}

    def test_a_host_is_drained_and_takes_servers_again(self):
        running, paused, stopped = (self.create() for _ in range(3))
        self.act(paused, {"pause": None}, "PAUSED")
        self.act(stopped, {"os-stop": None}, "SHUTOFF")
        other = self.create(NODES[1])
        plan = self.rows("enter", "--dry-run")
        self.assertEqual({server: row["plan"] for server, row in plan.items()},
                         {running: "live migration", paused: "live migration", stopped: "cold migration"})
        self.assertEqual(self.service()["status"], "enabled")
        done = self.rows("enter", "--parallel", "2", "--reason", "new fans")
        self.assertEqual({row["state"] for row in done.values()}, {"moved"}, done)
        self.assertEqual({row["destination"] for row in done.values()}, {NODES[1]})
        self.assertEqual(self.on_host(), set())
        self.assertEqual([self.host(server) for server in (running, paused, stopped, other)], [NODES[1]] * 4)
        for server, status in ((running, "ACTIVE"), (paused, "PAUSED"), (stopped, "SHUTOFF")):
            CLOUD.wait_status(server, status, 60)
        service = self.service()
        self.assertEqual(service["status"], "disabled")
        self.assertIn("new fans", service["disabled_reason"])
        self.assertEqual(self.rows("status"), {})
        self.kumoi("leave")
        self.assertEqual(self.service()["status"], "enabled")
        self.assertEqual(self.host(self.create()), NODES[0])

    def test_it_is_stopped_and_what_has_not_left_stays(self):
        servers = {self.create() for _ in range(3)}
        with subprocess.Popen([*self.program(), "enter", NODES[0], "--parallel", "1"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True) as drain:
            wait_until(lambda: any(CLOUD.server(one)["OS-EXT-STS:task_state"] == "migrating" for one in servers), 60,
                       "the first server is on its way")
            self.kumoi("stop")
            output, _ = drain.communicate(timeout=300 * PATIENCE)
        self.assertIn("stopped", output)
        left = self.on_host()
        self.assertTrue(left and left < servers, f"{left} of {servers}")
        for server in servers:
            CLOUD.wait_status(server, "ACTIVE", 120)
        self.assertEqual(self.service()["status"], "disabled")
        self.kumoi("leave")
        self.assertEqual(self.on_host(), left)


if __name__ == "__main__":
    unittest.main(verbosity=2)
