#!/usr/bin/env bash
# Installs the packages of the test cloud (packages.txt). A second run costs nothing: a stamp tells that the list
# was installed. No service of these packages is started; on a machine with systemd they are also disabled.
set -euo pipefail
# shellcheck source=settings.sh
source "$(dirname "$0")/settings.sh"
# shellcheck source=lib/process.sh
source "$CLOUD_ROOT/lib/process.sh"

lists=("$CLOUD_ROOT/packages.txt")
[ "$NETWORK" != ovs ] || lists+=("$CLOUD_ROOT/packages-ovs.txt")
[ "$WITH_CEPH" = 0 ] || lists+=("$CLOUD_ROOT/packages-ceph.txt")
[ "$WITH_L3" = 0 ] || lists+=("$CLOUD_ROOT/packages-l3.txt")
stamp=$CACHE/installed-$(cat "${lists[@]}" | md5sum | cut -c1-12)
[ ! -e "$stamp" ] || exit 0
[ "$(id -u)" = 0 ] || die "this installs packages: run it as root"
[ -r /etc/debian_version ] || die "this installs Debian packages and this is no Debian"

mapfile -t wanted < <(cat "${lists[@]}" | grep -v '^#')
mapfile -t missing < <(comm -23 <(printf '%s\n' "${wanted[@]}" | sort) \
    <(dpkg-query -W -f='${Package} ${Status}\n' "${wanted[@]}" 2>/dev/null | awk '/ok installed$/ {print $1}' | sort))
if [ ${#missing[@]} -gt 0 ]; then
    say "packages: installing ${missing[*]}"
    # While it exists Debian starts no service of a package that is being installed.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    get=(timeout 1200 apt-get -y -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300)
    "${get[@]}" update || die "apt-get update failed: is a package mirror reachable?"
    DEBIAN_FRONTEND=noninteractive "${get[@]}" install --no-install-recommends \
        -o Dpkg::Options::=--force-confold "${missing[@]}" </dev/null >/tmp/kumoi-cloud-apt.log 2>&1 || {
        tail -n 20 /tmp/kumoi-cloud-apt.log >&2
        die "some packages could not be installed; the whole log is /tmp/kumoi-cloud-apt.log"
    }
    if [ -d /run/systemd/system ]; then
        for package in "${missing[@]}"; do
            dpkg -L "$package" | sed -n 's,^/lib/systemd/system/,,p' | xargs -r systemctl disable -q 2>/dev/null || true
        done
    fi
fi
mkdir -p "$CACHE"
touch "$stamp"
