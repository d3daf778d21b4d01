#!/usr/bin/env bash
# A Ceph of one monitor and one OSD below one folder, for tests of RBD volumes; half a minute. With authentication (cephx), one
# copy of everything, no manager unless asked for. Nothing of it outlives `down`.
#   devstack/ceph.sh up FOLDER [ADDRESS]   127.0.0.1 unless told; again: starts what does not run. ceph -c FOLDER/ceph.conf -s
#   devstack/ceph.sh manager FOLDER        adds the manager: only statistics (`ceph df`) need it, as Cinder does
#   devstack/ceph.sh stop FOLDER
#   devstack/ceph.sh down FOLDER           ends it and removes the folder
# FOLDER can stand for /etc/ceph: ceph.conf, ceph.client.admin.keyring, and for pool `volumes` ceph.client.volumes.keyring.
# run/{mon,osd,mgr}.pid are the processes.
set -euo pipefail
verb=${1:?up, manager, stop or down} folder=$(realpath -m "${2:?a folder}")
conf=$folder/ceph.conf

fail() { echo "$*" >&2; exit 1; }
ceph() { command ceph -c "$conf" --connect-timeout 60 "$@"; }
# keyring FILE NAME CAPABILITY...: a new key.
keyring() { ceph-authtool --create-keyring "$folder/$1" --gen-key -n "$2" "${@:3}" >/dev/null; }

configure() {
    cat >"$conf" <<END
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon host = [v2:$1:3300,v1:$1:6789]
public addr = $1
cluster addr = $1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = $folder/\$cluster.\$name.keyring
run dir = $folder/run
admin socket = $folder/run/\$cluster-\$name.\$pid.asok
log file = $folder/log/\$name.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
mon data avail warn = 2
[mon]
mon data = $folder/mon
keyring = $folder/mon/keyring
[mgr]
mgr data = $folder/mgr
keyring = $folder/mgr/keyring
[osd]
osd data = $folder/osd
keyring = $folder/osd/keyring
osd objectstore = bluestore
bluestore block size = 8589934592
bluestore cache autotune = false
bluestore cache size = 67108864
osd max object name len = 256
osd max object namespace len = 64
END
}

runs() {
    local pid
    [ -s "$folder/run/$1.pid" ] && pid=$(cat "$folder/run/$1.pid") &&
        grep -qaF "$conf" "/proc/$pid/cmdline" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$pid/status"
}

start() {
    local name=a
    if runs "$1"; then return; fi
    [ "$1" != osd ] || name=0
    setsid "ceph-$1" -c "$conf" -i "$name" -f >>"$folder/log/$1.out" 2>&1 </dev/null &
    echo $! >"$folder/run/$1.pid"
}

make() {
    mkdir -p "$folder"/{run,log,mon,osd}
    chmod 711 "$folder" "$folder/run"
    configure "$1"
    keyring ceph.client.admin.keyring client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
    keyring mon.first mon. --cap mon 'allow *'
    ceph-authtool "$folder/mon.first" --import-keyring "$folder/ceph.client.admin.keyring" >/dev/null
    monmaptool --create --fsid "$(awk '$1 == "fsid" {print $3}' "$conf")" \
        --addv a "[v2:$1:3300,v1:$1:6789]" "$folder/monmap" >/dev/null
    ceph-mon -c "$conf" --mkfs -i a --monmap "$folder/monmap" --keyring "$folder/mon.first"
    start mon
    uuid=$(cat /proc/sys/kernel/random/uuid)
    ceph osd new "$uuid" >/dev/null
    ceph auth get-or-create osd.0 mon 'allow profile osd' mgr 'allow profile osd' osd 'allow *' >"$folder/osd/keyring"
    ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$uuid" 2>>"$folder/log/osd.out"
    start osd
    ceph osd pool create volumes 8 >/dev/null 2>&1
    ceph osd pool application enable volumes rbd >/dev/null 2>&1
    ceph auth get-or-create client.volumes mon 'profile rbd' mgr 'profile rbd' osd 'profile rbd pool=volumes' \
        >"$folder/ceph.client.volumes.keyring"
    touch "$folder/made"
}

up() {
    for program in ceph ceph-mon ceph-osd ceph-authtool monmaptool rbd; do
        [ -n "$(type -P $program)" ] || fail "$program is missing: apt-get install ceph-mon ceph-osd ceph-common"
    done
    if [ -e "$folder/made" ]; then
        start mon
        start osd
        if [ -d "$folder/mgr" ]; then start mgr; fi
    else
        [ ! -e "$conf" ] || fail "$folder has half a Ceph: $0 down $folder"
        make "$1"
    fi
    timeout 60 rbd -c "$conf" pool init volumes || fail "the OSD does not serve: $(tail -n 20 "$folder/log/osd.out")"
}

manager() {
    if [ ! -d "$folder/mgr" ]; then
        mkdir -p "$folder/mgr"
        ceph auth get-or-create mgr.a mon 'allow profile mgr' osd 'allow *' >"$folder/mgr/keyring"
    fi
    start mgr
}

stop() {
    local part pid
    for part in mgr osd mon; do
        runs $part || continue
        pid=$(cat "$folder/run/$part.pid")
        kill -9 "$pid"
        while runs $part; do sleep 0.1; done
    done
}

case $verb in
up) up "${3:-127.0.0.1}" ;;
manager) manager ;;
stop) stop ;;
down)
    stop
    rm -rf "$folder"
    ;;
*) fail "up, manager, stop or down; not $verb" ;;
esac
