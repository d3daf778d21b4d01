#!/usr/bin/python3
"""One network on two nodes that are network namespaces: real bridges, TAPs and filters, with this test in the place of
the guests. A server is reached at its address on another node, and still is when it has moved live."""
import os
import subprocess
import sys

from cloud import wait_until
from cluster import TwoHosts, enter_own_namespaces, run
# Runs in the namespace of the node: answers ARP and asks for others, as a guest's kernel would.
GUEST = r'''
import fcntl, os, select, struct, sys, time
name, mac, address = sys.argv[1:4]
tap = os.open("/dev/net/tun", os.O_RDWR)
flags = 0x0002 | 0x1000 | 0x4000  # TAP, NO_PI, VNET_HDR
fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", name.encode(), flags))
raw, own = bytes.fromhex(mac.replace(":", "")), bytes(int(part) for part in address.split("."))
def send(destination, operation, target_mac, target):
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + raw + own + target_mac + target
    os.write(tap, bytes(10) + destination + raw + b"\x08\x06" + arp)
send(b"\xff" * 6, 1, bytes(6), own)  # here I am
while True:
    ready, _, _ = select.select([tap, 0], [], [], 60)
    if 0 in ready:
        line = os.read(0, 100).decode().strip()
        if not line:
            break
        for _ in range(20):
            send(b"\xff" * 6, 1, bytes(6), bytes(int(part) for part in line.split(".")))
            until = time.monotonic() + 0.25
            answer = None
            while time.monotonic() < until and answer is None:
                if not select.select([tap], [], [], 0.05)[0]:
                    continue
                frame = os.read(tap, 2000)[10:]
                if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x02" and frame[28:32] == bytes(
                        int(part) for part in line.split(".")):
                    answer = frame[22:28].hex(":")
                elif frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x01" and frame[38:42] == own:
                    send(frame[6:12], 2, frame[22:28], frame[28:32])
            if answer:
                break
        print(answer or "nobody", flush=True)
    elif tap in ready:
        frame = os.read(tap, 2000)[10:]
        if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x01" and frame[38:42] == own:
            send(frame[6:12], 2, frame[22:28], frame[28:32])
'''


class Guest:
    def __init__(self, prefix, port):
        self.mac, self.address = port["MAC Address"], port["Fixed IP Addresses"][0]["ip_address"]
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", GUEST, "kt" + port["ID"][:11], self.mac, self.address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def ask(self, address):
        """The MAC that answers for this address, or "nobody"."""
        self.process.stdin.write(address + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def stop(self):
        self.process.kill()
        self.process.wait()


def main():
    enter_own_namespaces("nft", "dnsmasq")
    hosts = TwoHosts("simulated", "DEFAULT update_resources_interval = 1\nsimulated migration_bandwidth = 4096")
    cloud, prefix, guests = hosts.cloud, hosts.prefix, []
    try:
        hosts.start()
        os_ = cloud.openstack
        (cloud.state / "disk.img").write_bytes(os.urandom(1 << 20))
        os_("image", "create", "tiny", "--disk-format", "raw", "--container-format", "bare",
            "--file", str(cloud.state / "disk.img"), "-f", "json")
        os_("flavor", "create", "m1.tiny", "--vcpus", "1", "--ram", "128", "--disk", "1", "-f", "json")
        os_("network", "create", "lan", "-f", "json")
        os_("subnet", "create", "lan4", "--network", "lan", "--subnet-range", "10.7.0.0/24", "-f", "json")
        ports = {}
        for host in ("cn-1", "cn-2"):
            os_("server", "create", f"on-{host}", "--wait", "--image", "tiny", "--flavor", "m1.tiny", "--network", "lan",
                "--availability-zone", f"nova:{host}")
            ports[host] = os_("port", "list", "--server", f"on-{host}", "-f", "json")[0]
        near_guest = Guest([], ports["cn-1"])
        far_guest = Guest(prefix, ports["cn-2"])
        guests = [near_guest, far_guest]
        answer = near_guest.ask(far_guest.address)
        assert answer == far_guest.mac, f"{far_guest.address} is at {answer}, not {far_guest.mac}"
        assert far_guest.ask(near_guest.address) == near_guest.mac
        # The gateway is at hand on both nodes, under one MAC.
        gateways = {guest.ask("10.7.0.1") for guest in guests}
        assert len(gateways) == 1 and "nobody" not in gateways, gateways
        assert near_guest.ask("10.7.0.77") == "nobody"

        os_("server", "migrate", "on-cn-2", "--live-migration", "--block-migration", "--wait")
        assert os_("server", "show", "on-cn-2", "-f", "json")["OS-EXT-SRV-ATTR:host"] == "cn-1"
        far_guest.stop()
        moved = Guest([], ports["cn-2"])
        guests = [near_guest, moved]
        answer = near_guest.ask(moved.address)
        assert answer == moved.mac, f"after the move {moved.address} is at {answer}"
        wait_until(lambda: "kb" not in run(*prefix, "ip", "-o", "link"), 10, "nothing is left on the node it left", 0.2)
        os_("server", "migrate", "on-cn-1", "--live-migration", "--block-migration", "--wait")
        near_guest.stop()
        other = Guest(prefix, ports["cn-1"])
        guests = [moved, other]
        assert other.ask(moved.address) == moved.mac
        assert moved.ask(other.address) == other.mac
        print("OK")
    except BaseException:
        hosts.tell()
        raise
    finally:
        for guest in guests:
            guest.stop()
        hosts.stop()


if __name__ == "__main__":
    main()
