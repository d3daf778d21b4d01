#!/usr/bin/env bash
# Can this machine run the test cloud? Installs the packages if it must. Exit status 0: yes. 77: no, and the last
# line says what is missing. It leaves nothing behind but the packages.
set -uo pipefail
# shellcheck source=settings.sh
source "$(dirname "$0")/settings.sh"

no() {
    printf '%s\n' "$*"
    exit 77
}

[ "$(id -u)" = 0 ] || no "the test cloud makes network namespaces: run this as root"
# shellcheck source=/dev/null
release=$(. /etc/os-release 2>/dev/null && echo "${ID:-}-${VERSION_CODENAME:-}")
[ "$release" = debian-bookworm ] || no "the test cloud is made of Debian 12's packages, and this is ${release:-unknown}"
mkdir -p "$STATE"
if [ ! -e "$RUN/mariadb.pid" ]; then # a cloud that already runs has what it needs
    memory=$(awk '/^MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
    [ "$memory" -ge $MEMORY_NEEDED ] || no "the test cloud needs $MEMORY_NEEDED MiB of memory, and $memory are free"
    disk=$(df --output=avail -m "$STATE" | tail -n 1)
    [ "$disk" -ge $DISK_NEEDED ] || no "the test cloud needs $DISK_NEEDED MiB of disk below $STATE, and ${disk// /} are free"
fi
if ! said=$("$CLOUD_ROOT/install.sh" 2>&1); then
    no "OpenStack's packages could not be installed: $(tail -n 1 <<<"$said" | sed 's/\x1b\[[0-9;]*m//g; s/^ *x *//')"
fi

# kernel FEATURE COMMAND: tried in a namespace that ends with it.
kernel() {
    unshare --net --mount --propagation slave sh -c "$2" >/dev/null 2>&1 || no "this kernel, or this container, has no $1"
}
mkdir -p /run/netns
kernel "network and mount namespaces" true
kernel "mounts in a namespace of its own" "mount -t tmpfs none /mnt && mount -t sysfs sysfs /sys"
kernel "veth pairs and bridges" "ip link add b0 type bridge && ip link add v0 type veth peer name v1 && ip link set v0 master b0"
if [ "$WITH_AGENTS" = 1 ]; then
    kernel "vxlan, which Neutron's networks use" \
        "ip link add v0 type dummy || ip link add v0 type veth; ip link add x0 type vxlan id 5 group 239.1.1.1 dstport 4789 dev v0"
    kernel "iptables with physdev and connection tracking zones, which Neutron's security groups use" \
        "iptables -A FORWARD -m physdev --physdev-in v0 --physdev-is-bridged -j ACCEPT && iptables -t raw -A PREROUTING -j CT --zone 1"
    kernel "ipset, which Neutron's security groups use" "ipset create probe hash:net"
fi
if [ "$COMPUTE" = kumoi ]; then
    kernel "TAP devices (/dev/net/tun)" "ip tuntap add t0 mode tap"
fi
