#!/usr/bin/env bash
# service.sh kill|stop|freeze|thaw|start|restart|pid|list [NAME...]: does it to the cloud's processes, by the names of
# $STATE/run/*.pid (rabbit, nova-conductor, keystone, nova-compute-kumoi-n1, ...).
#   kill     SIGKILL to the whole group, at once       freeze, thaw   SIGSTOP, SIGCONT to the whole group
#   stop     SIGTERM, then SIGKILL                     start          again, by its own command line
set -euo pipefail
# shellcheck source=../settings.sh
source "$(dirname "$0")/../settings.sh"
# shellcheck source=../lib/process.sh
source "$CLOUD_ROOT/lib/process.sh"

signal() { # SIGNAL NAME
    local pid
    pid=$(pid_of "$2") || die "$2 does not run"
    kill "-$1" -- "-$pid"
}

verb=${1:-list}
shift || true
case $verb in
list)
    for file in "$RUN"/*.pid; do
        name=$(basename "$file" .pid)
        printf '%s %s\n' "$name" "$(pid_of "$name" || echo -)"
    done
    exit
    ;;
esac
[ $# -gt 0 ] || die "$verb what? service.sh list shows the names"
for name in "$@"; do
    case $verb in
    kill)
        signal KILL "$name"
        wait_for "the end of $name" 10 bash -c "! kill -0 $(cut -d' ' -f1 "$RUN/$name.pid")"
        rm -f "$RUN/$name.pid"
        ;;
    freeze) signal STOP "$name" ;;
    thaw) signal CONT "$name" ;;
    stop) stop "$name" 20 ;;
    start) again "$name" ;;
    restart)
        stop "$name" 20
        again "$name"
        ;;
    pid) pid_of "$name" ;;
    *) die "no verb $verb" ;;
    esac
done
