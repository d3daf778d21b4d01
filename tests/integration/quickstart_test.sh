#!/usr/bin/env bash
# Runs ./quickstart --once in a state folder and a network namespace of its own, so that neither ports
# nor bridges of a kumoi that runs here are touched, and checks that it leaves nothing behind.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
[ -w /dev/kvm ] || { echo "SKIP: /dev/kvm is missing or not writable"; exit 77; }
[ "$(id -u)" -eq 0 ] || { echo "SKIP: needs root for a network namespace"; exit 77; }
[ -x "$root/build/release/bin/kumoi-compute" ] || { echo "SKIP: the release build is missing"; exit 77; }
name=kumoi-quickstart-$$
state=$(mktemp -d)
ip netns add "$name"
cleanup() {
    pkill -9 -f "$state" || true
    ip netns del "$name" || true
    rm -rf "$state"
}
trap cleanup EXIT
ip -n "$name" link set lo up
ip netns exec "$name" "$root/quickstart" --once --state "$state"
if pgrep -f "$state" >/dev/null; then
    echo "left running:"
    pgrep -af "$state"
    exit 1
fi
left=$(ip -n "$name" -o link show | grep -v ' lo:' || true)
[ -z "$left" ] || { echo "left devices: $left"; exit 1; }
left=$(find "$state/instances" -mindepth 1 -maxdepth 1 ! -name _base)
[ -z "$left" ] || { echo "left folders: $left"; exit 1; }
echo "quickstart --once: done, nothing left behind"
