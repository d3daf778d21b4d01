#!/usr/bin/env bash
# Ends what up.sh started, and nothing else. --wipe: removes all state too.
set -uo pipefail
# shellcheck source=settings.sh
source "$(dirname "$0")/settings.sh"
# shellcheck source=lib/process.sh
source "$CLOUD_ROOT/lib/process.sh"
# shellcheck source=lib/network.sh
source "$CLOUD_ROOT/lib/network.sh"
# shellcheck source=lib/services.sh
source "$CLOUD_ROOT/lib/services.sh"

names() { find "$RUN" -maxdepth 1 -name "$1.pid" -printf '%f\n' 2>/dev/null | sed 's/\.pid$//'; }
for name in $(names 'nova-compute-*'); do stop "$name" 10 & done
wait
for name in $(names '*'); do
    case $name in rabbit | mariadb | epmd) ;; *) stop "$name" 3 & ;; esac
done
wait
stop mariadb 20 &
stop rabbit 10 &
wait
stop epmd
if [ -d "$STATE/ceph" ]; then "$CLOUD_ROOT/../ceph.sh" stop "$STATE/ceph"; fi
# Guests outlive their daemon on purpose. Each names its folder.
for pid in $(pgrep -f "^[^ ]*kumoi-vmm .*$STATE/" || true); do kill "$pid"; done
# Neutron's agents leave dnsmasq and haproxy behind on purpose: networks outlive their agents. Each names its state.
for pid in $(pgrep -f "$STATE/" || true); do
    case $(ps -o comm= -p "$pid") in dnsmasq | haproxy) kill "$pid" ;; esac
done
for folder in "$STATE"/neutron/dhcp/*/; do
    ip netns del "qdhcp-$(basename "$folder")" 2>/dev/null
    rm -f "/run/netns/qdhcp-$(basename "$folder")"
done
network_down
if [ "${1:-}" = --wipe ]; then rm -rf "$STATE"; fi
