#!/usr/bin/python3
"""One network on two nodes that are network namespaces: real bridges, TAPs and filters, with this test in the place of
the guests. A server is reached at its address on another node, and still is when it has moved live."""
import os
import shutil
import subprocess
import sys

from cloud import Cloud, skip, wait_until
from cluster import Broker, Member

OUTER, FAR = "10.9.0.1", "10.9.0.2"


def enter_own_namespaces():
    if os.environ.get("KUMOI_IN_NAMESPACE"):
        return
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        skip("needs root and /dev/net/tun")
    for program in ("nft", "dnsmasq", "ip"):
        if not shutil.which(program):
            skip(f"no {program}")
    os.environ["KUMOI_IN_NAMESPACE"] = "1"
    os.execvp("unshare", ["unshare", "--net", "--", sys.executable, "-B", *sys.argv])


def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


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
    enter_own_namespaces()
    far = subprocess.Popen(["unshare", "--net", "--", "sleep", "600"])
    prefix = ["nsenter", "--net", "-t", str(far.pid), "--"]
    wait_until(lambda: os.readlink(f"/proc/{far.pid}/ns/net") != os.readlink("/proc/self/ns/net"), 10, "a namespace")
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(far.pid))
    run("ip", "addr", "add", f"{OUTER}/24", "dev", "near")
    run("ip", "link", "set", "near", "up")
    run(*prefix, "ip", "link", "set", "lo", "up")
    run(*prefix, "ip", "addr", "add", f"{FAR}/24", "dev", "far")
    run(*prefix, "ip", "link", "set", "far", "up")
    broker = Broker(OUTER)
    cloud = Cloud(options=f"DEFAULT transport_url = {broker.url}\nDEFAULT my_ip = {OUTER}\n"
                  "DEFAULT update_resources_interval = 1\nsimulated migration_bandwidth = 4096")
    text = (cloud.state / "kumoi.conf").read_text().replace("real_devices = false", "real_devices = true")
    text = text.replace("listen = 127.0.0.1", f"listen = {OUTER}")
    text = text.replace("[identity]\n", f"[identity]\npublic_host = {OUTER}\n")
    (cloud.state / "kumoi.conf").write_text(text)
    cloud.url = lambda service: f"http://{OUTER}:{cloud.ports[service]}"
    member, guests = None, []
    try:
        broker.start()
        cloud.start(60)
        member = Member("cn-2", cloud, broker, "DEFAULT update_resources_interval = 1", FAR, prefix=prefix)
        conf = member.state / "kumoi.conf"
        conf.write_text(conf.read_text().replace("real_devices = false", "real_devices = true"))
        member.start()
        os_ = cloud.openstack
        wait_until(lambda: len(os_("hypervisor", "list", "-f", "json")) == 2, 30, "both nodes are there", 0.5)
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
        print(cloud.logs()[-6000:], member.logs()[-6000:] if member else "")
        for where in ([], prefix):
            print(run(*where, "ip", "-d", "-o", "link"), run(*where, "bridge", "fdb"))
        raise
    finally:
        for guest in guests:
            guest.stop()
        if member:
            member.stop()
            member.remove()
        cloud.stop()
        cloud.remove()
        broker.stop()
        far.kill()


if __name__ == "__main__":
    main()
