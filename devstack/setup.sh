#!/usr/bin/env bash
# What ./quickstart and ./check share: becoming root, saying what happens, installing packages,
# configuring and building. Sourced, never run. Works without systemd.

KUMOI_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
KUMOI_CACHE=${KUMOI_CACHE:-/var/cache/kumoi}
export KUMOI_CACHE
# Compiled objects are shared between checkouts: paths of the tree count from the build folder.
export CCACHE_BASEDIR=$KUMOI_ROOT CCACHE_NOHASHDIR=1

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
warn() { printf '\033[33m  ! %s\033[0m\n' "$*" >&2; }
die() {
    printf '\033[31m  x %s\033[0m\n' "$*" >&2
    exit 1
}

become_root() {
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "this needs root and there is no sudo: run it as root"
        exec sudo -E "$0" "$@"
    fi
}

packages_missing() {
    local wanted
    wanted=$(grep -v '^#' "$KUMOI_ROOT/devstack/packages.txt" | grep -v '^$')
    # shellcheck disable=SC2086  # one word a package
    comm -23 <(sort <<<"$wanted") \
        <(dpkg-query -W -f='${Package} ${Status}\n' $wanted 2>/dev/null | awk '/ok installed$/ {print $1}' | sort)
}

install_packages() {
    [ -r /etc/debian_version ] || die "this script installs Debian packages and this is no Debian"
    local missing
    missing=$(packages_missing | tr '\n' ' ')
    if [ -z "${missing// /}" ]; then
        say "packages: all $(grep -cv '^#\|^$' "$KUMOI_ROOT/devstack/packages.txt") are here"
        return
    fi
    say "packages: installing $missing"
    apt-get update -qq || die "apt-get update failed: is a package mirror reachable?"
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing \
        >/tmp/kumoi-apt.log 2>&1 || {
        tail -n 20 /tmp/kumoi-apt.log >&2
        die "some packages could not be installed; the whole log is /tmp/kumoi-apt.log"
    }
}

# build PRESET [TARGET ...]
build() {
    local preset=$1
    shift
    say "building ($preset) ${*:+targets: $*}"
    (cd "$KUMOI_ROOT" && cmake --preset "$preset" >"/tmp/kumoi-cmake-$preset.log" 2>&1) || {
        tail -n 20 "/tmp/kumoi-cmake-$preset.log" >&2
        die "cmake --preset $preset failed"
    }
    NINJA_STATUS='    [%f/%t %es] ' cmake --build "$KUMOI_ROOT/build/$preset" --parallel "$(nproc)" \
        ${@:+--target "$@"} || die "the $preset build failed"
}
