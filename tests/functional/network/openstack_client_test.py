#!/usr/bin/python3
"""Debian's openstack client, unchanged, against our Network API: the commands of the tutorial and
their JSON. Usage: openstack_client_test.py <network_api_server program>"""

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

try:
    from openstackclient import shell
except ImportError:
    print("network client tests skipped: python3-openstackclient is not installed for /usr/bin/python3")
    sys.exit(0)


class Client:
    """Runs the default user's commands in this process, since the client's imports alone take seconds;
    another user's in a process of their own, since the client remembers its session."""

    def __init__(self, port):
        self.port = port

    def run(self, *arguments, user="a:member", expect=0):
        argv = ["--os-auth-type", "admin_token", "--os-token", user,
                "--os-endpoint", f"http://127.0.0.1:{self.port}", *arguments]
        code, out, err = self.in_process(argv) if user == "a:member" else self.in_child(argv)
        if (code != 0) != (expect != 0):
            raise AssertionError(f"openstack {' '.join(arguments)}: exit {code}, expected {expect}\n"
                                 f"{out}{err}")
        return out + (err if expect else "")

    @staticmethod
    def in_process(argv):
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = shell.main(argv)
            except SystemExit as stop:
                code = stop.code
        return code, out.getvalue(), err.getvalue()

    @staticmethod
    def in_child(argv):
        done = subprocess.run([sys.executable, "/usr/bin/openstack", *argv], capture_output=True,
                              text=True, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr

    def json(self, *arguments, **options):
        return json.loads(self.run(*arguments, "-f", "json", **options))


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def test_networks_and_subnets(client):
    network = client.json("network", "create", "net1", "--mtu", "1400", "--description", "d")
    check(network["mtu"] == 1400 and network["name"] == "net1", network)
    subnet = client.json("subnet", "create", "--network", "net1", "--subnet-range", "10.5.0.0/24",
                         "--dns-nameserver", "9.9.9.9", "--host-route",
                         "destination=192.0.2.0/24,gateway=10.5.0.9",
                         "--allocation-pool", "start=10.5.0.10,end=10.5.0.20", "sub1")
    check(subnet["gateway_ip"] == "10.5.0.1", subnet)
    check(subnet["allocation_pools"] == [{"start": "10.5.0.10", "end": "10.5.0.20"}], subnet)
    check(client.json("subnet", "show", "sub1")["cidr"] == "10.5.0.0/24", "subnet show")
    listed = client.json("network", "list")
    check([(row["Name"], row["Subnets"]) for row in listed] == [("net1", [subnet["id"]])], listed)
    check(client.json("network", "list", "--external") == [], "no external networks")
    client.run("network", "set", "--name", "net2", "net1")
    check(client.json("network", "show", "net2")["id"] == network["id"], "renamed")
    client.run("subnet", "set", "--no-dns-nameservers", "sub1")
    client.run("network", "set", "--name", "net1", "net2")
    client.run("network", "set", "--tag", "blue", "net1")
    check(len(client.json("network", "list", "--tags", "blue")) == 1, "found by tag")
    check("No Network found" in client.run("network", "show", "net1", user="b:member", expect=1),
          "another project sees nothing")


def test_ports(client):
    port = client.json("port", "create", "--network", "net1", "--fixed-ip",
                       "subnet=sub1,ip-address=10.5.0.15", "p1")
    check(port["fixed_ips"][0]["ip_address"] == "10.5.0.15", port)
    check(port["mac_address"].startswith("fa:16:3e:"), port)
    listed = client.json("port", "list", "--network", "net1")
    check(listed[0]["Name"] == "p1" and listed[0]["Status"] == "DOWN", listed)
    check(len(client.json("port", "list", "--fixed-ip", "ip-address=10.5.0.15")) == 1, "by address")
    taken = client.run("port", "create", "--network", "net1", "--fixed-ip", "ip-address=10.5.0.15",
                       "p2", expect=1)
    check("10.5.0.15 already allocated" in taken, taken)
    client.run("port", "set", "--allowed-address", "ip-address=10.5.0.100", "p1")
    check(client.json("port", "show", "p1")["allowed_address_pairs"][0]["ip_address"]
          == "10.5.0.100", "pairs")
    in_use = client.run("network", "delete", "net1", expect=1)
    check("One or more ports" in in_use or "ports still in use" in in_use, in_use)


def test_security_groups(client):
    group = client.json("security", "group", "create", "web", "--description", "w")
    check(len(group["rules"]) == 2, group)
    rule = client.json("security", "group", "rule", "create", "--protocol", "tcp", "--dst-port",
                       "80:90", "--remote-ip", "0.0.0.0/0", "web")
    check((rule["port_range_min"], rule["port_range_max"]) == (80, 90), rule)
    client.run("security", "group", "rule", "create", "--protocol", "icmp", "web")
    client.run("security", "group", "rule", "create", "--protocol", "tcp", "--dst-port", "22",
               "--remote-group", "web", "web")
    check(len(client.json("security", "group", "rule", "list", "web")) == 5, "rules")
    names = sorted(row["Name"] for row in client.json("security", "group", "list"))
    check(names == ["default", "web"], names)
    client.run("port", "set", "--security-group", "web", "p1")
    client.run("security", "group", "delete", "web", expect=1)
    client.run("port", "unset", "--security-group", "web", "p1")
    client.run("security", "group", "rule", "delete", rule["id"])
    client.run("security", "group", "delete", "web")


def test_operator_views(client):
    agents = client.json("network", "agent", "list", user="a:admin")
    check(agents[0]["Host"] == "host1", agents)
    zones = client.json("availability", "zone", "list", "--network")
    check(zones[0]["Zone Name"] == "nova", zones)
    aliases = [row["Alias"] for row in client.json("extension", "list", "--network")]
    check("security-group" in aliases and "router" not in aliases, aliases)


def test_removal(client):
    client.run("port", "delete", "p1")
    client.run("subnet", "delete", "sub1")
    client.run("network", "delete", "net1")
    check(client.json("network", "list") == [], "all gone")


def main():
    server = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        client = Client(int(server.stdout.readline()))
        for test in (test_networks_and_subnets, test_ports, test_security_groups,
                     test_operator_views, test_removal):
            test(client)
            print(f"[  PASSED  ] {test.__name__}", flush=True)
    finally:
        server.stdin.close()
        server.wait(10)


if __name__ == "__main__":
    main()
