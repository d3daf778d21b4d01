#!/usr/bin/env bash
# Installs what kumoi-guestfs needs: libguestfs and a kernel for its appliance. Where /boot has none
# (containers, small virtual machines) Debian's cloud kernel is unpacked into the cache, not installed.
set -euo pipefail
# shellcheck source=devstack/setup.sh
source "$(dirname "$0")/setup.sh"
become_root "$@"

apt-get install -y --no-install-recommends libguestfs-dev supermin kmod >/dev/null
if compgen -G '/boot/vmlinuz-*' >/dev/null; then
    exit 0
fi
folder=$KUMOI_CACHE/guestfs
if [ ! -e "$folder/ready" ]; then
    rm -rf "$folder"
    mkdir -p "$folder/root"
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ {print $2; exit}')
    (cd "$folder" && apt-get download "$package" && dpkg-deb -x ./*.deb root && rm -f ./*.deb)
    depmod -b "$folder/root" "$(ls "$folder/root/lib/modules")"
    touch "$folder/ready"
fi
mkdir -p /lib/modules # supermin looks at it even when told where the modules are
