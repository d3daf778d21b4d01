"""A Linux guest with Debian's own qemu-guest-agent in it: an initrd of busybox, the agent and its libraries.

Its init mounts the first disk, starts the agent on its port and gives a shell on the serial port. The prompt of
that shell is `agent-guest# `.
"""
import os
import pathlib
import re
import shutil
import subprocess

AGENT = "/usr/sbin/qemu-ga"
BUSYBOX = "/bin/busybox"
INIT = """#!/bin/busybox sh
export PATH=/bin:/usr/sbin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t ext2 /dev/vda /mnt
for port in /sys/class/virtio-ports/*; do
    read name <$port/name && echo "agent-guest: port $name"
    [ "$name" = org.qemu.guest_agent.0 ] && qemu-ga -p /dev/${port##*/} -t /run -l /run/agent.log &
done
export PS1='agent-guest# '
echo "agent-guest: up"
exec busybox setsid busybox sh </dev/ttyS0 >/dev/ttyS0 2>&1
"""
# What the agent runs for a password; Debian's would need PAM.
CHPASSWD = """#!/bin/busybox sh
IFS=: read -r user password
busybox grep -q "^$user:" /etc/shadow || exit 1
hash=$(busybox mkpasswd -m sha512 "$password")
exec busybox sed -i "s|^$user:[^:]*:|$user:$hash:|" /etc/shadow
"""


def missing():
    """Why there cannot be such a guest; empty: there can."""
    for path, package in ((AGENT, "qemu-guest-agent"), (BUSYBOX, "busybox-static"), ("/usr/bin/cpio", "cpio")):
        if not os.path.exists(path):
            return f"{path} is missing: install {package}"
    return ""


def libraries(program):
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return sorted(set(re.findall(r"(/\S+\.so\S*)", listed)))


def make_initrd(folder):
    """Writes `folder`/agent.cpio and returns its path."""
    root = pathlib.Path(folder, "agent-root")
    for name in ("bin", "usr/sbin", "etc", "proc", "sys", "dev", "mnt", "run", "root"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    shutil.copy(AGENT, root / "usr/sbin/qemu-ga")
    for library in libraries(AGENT):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(library), target)
    (root / "usr/sbin/chpasswd").write_text(CHPASSWD)
    (root / "usr/sbin/chpasswd").chmod(0o755)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\n")
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    path = pathlib.Path(folder, "agent.cpio")
    with open(path, "wb") as archive:
        names = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
        subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"], cwd=root, input=names,
                       stdout=archive, check=True)
    shutil.rmtree(root)
    return str(path)
