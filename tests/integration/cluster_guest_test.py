#!/usr/bin/python3
"""A Linux guest moves between the two nodes of a standalone cloud while it runs: it keeps its memory, its processes and
its address."""
import json
import os
import pathlib
import re
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
import linux_guest  # noqa: E402
from cloud import CLI, skip, wait_until  # noqa: E402
from cluster import TwoHosts, enter_own_namespaces  # noqa: E402

PATIENCE = float(os.environ.get("KUMOI_TEST_PATIENCE", "1"))

PING = r"""
import socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as wire:
    wire.settimeout(1)
    body = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
    total = sum(struct.unpack("!4H", body))
    total = (total & 0xffff) + (total >> 16)
    request = body[:2] + struct.pack("!H", ~total & 0xffff) + body[4:]
    for _ in range(10):
        wire.sendto(request, (sys.argv[1], 0))
        try:
            packet, sender = wire.recvfrom(2000)
        except TimeoutError:
            continue
        if sender[0] == sys.argv[1] and packet[20] == 0:
            print("answers")
            break
"""


def login(hosts, host, server, command):
    """Runs a command in the guest over its serial console and returns what it printed."""
    mark = f"done-{os.urandom(4).hex()}"
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(str(hosts.state(host) / "instances" / server / "console.sock"))
        console.settimeout(30 * PATIENCE)
        console.sendall(f"{command}; echo {mark[:4]}''{mark[4:]}\n".encode())
        seen = b""
        while mark.encode() not in seen:
            piece = console.recv(4096)
            assert piece, seen[-500:]
            seen += piece
    return seen.decode(errors="replace")


def kumoi(hosts, *argv):
    names = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
    done = subprocess.run([str(CLI), "--state-path", str(hosts.cloud.state), *argv], env=names, timeout=240,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    print(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def main():
    if not os.access("/dev/kvm", os.W_OK):
        skip("/dev/kvm is missing or not writable")
    enter_own_namespaces("nft", "dnsmasq")
    folders = linux_guest.folders()
    hosts = TwoHosts("kumoi", "DEFAULT update_resources_interval = 2")
    try:
        hosts.start()
        os_ = hosts.cloud.openstack
        kernel = os_("image", "create", "kernel", "--disk-format", "aki", "--container-format", "aki",
                     "--file", f"{folders[0]}/vmlinux", "-f", "json")["id"]
        os_("image", "create", "tiny", "--disk-format", "raw", "--property", f"kernel_id={kernel}",
            "--property", "os_command_line=console=ttyS0 root=/dev/vda rw quiet",
            "--file", f"{folders[1]}/kumoi-tiny.raw", "-f", "json")
        os_("flavor", "create", "small", "--ram", "96", "--disk", "1")
        os_("network", "create", "net")
        os_("subnet", "create", "sub", "--network", "net", "--subnet-range", "10.77.0.0/24")
        group = next(row["ID"] for row in os_("security", "group", "list", "-f", "json") if row["Name"] == "default")
        os_("security", "group", "rule", "create", "--proto", "icmp", group)
        os_("server", "create", "web", "--wait", "--image", "tiny", "--flavor", "small", "--network", "net",
            "--availability-zone", "nova:cn-1")
        server = os_("server", "show", "web", "-f", "json")
        identity, address = server["id"], server["addresses"]["net"][0]
        log = hosts.state("cn-1") / "instances" / identity / "console.log"
        wait_until(lambda: re.search("kumoi-tiny: ready", log.read_text(errors="replace")), 180 * PATIENCE,
                   "the guest is up", 0.5)
        login(hosts, "cn-1", identity, "mkdir -p /tmp; echo remembered > /tmp/mark; (sleep 7777 &)")
        host = "cn-1"
        for target in ("cn-2", "cn-1"):
            kumoi(hosts, "server", "migrate", "web", "--live", "--host", target)
            shown = json.loads(kumoi(hosts, "server", "show", "web", "-f", "json"))
            assert (shown["status"], shown["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", target), shown
            said = login(hosts, target, identity, "cat /tmp/mark; ps")
            assert "remembered" in said and "sleep 7777" in said, said
            where = [] if target == "cn-1" else hosts.prefix
            ping = subprocess.run([*where, sys.executable, "-c", PING, address], capture_output=True, text=True,
                                  check=False)
            assert "answers" in ping.stdout, ping.stdout + ping.stderr
            assert not (hosts.state(host) / "instances" / identity).exists(), f"{host} kept the folder"
            host = target
        os_("server", "delete", "--wait", "web")
        print("OK")
    except BaseException:
        hosts.tell()
        raise
    finally:
        hosts.stop()


if __name__ == "__main__":
    main()
