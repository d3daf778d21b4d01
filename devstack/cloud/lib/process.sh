# shellcheck shell=bash disable=SC2154  # names come from settings.sh
# Starts, ends and finds the cloud's processes. Each has a name; its process id, and when it was started,
# are in $RUN/NAME.pid, its output in $LOG/NAME.out. Each leads a process group of its own, which ends with it.
# Nothing here ends a process that these scripts have not started.

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
die() {
    printf '\033[31m  x %s\033[0m\n' "$*" >&2
    exit 1
}

# started_at PID: the kernel's start time of a process; tells a process from another that got its number.
started_at() { awk '{ sub(/.*\) /, ""); if ($1 != "Z") print $20 }' "/proc/$1/stat" 2>/dev/null; }

# pid_of NAME: prints the process id if NAME runs.
pid_of() {
    local pid since
    [ -s "$RUN/$1.pid" ] && read -r pid since <"$RUN/$1.pid" && [ "$(started_at "$pid")" = "$since" ] && echo "$pid"
}

# start NAME NAMESPACE COMMAND...
start() {
    local name=$1 namespace=$2 pid
    shift 2
    pid_of "$name" >/dev/null && return
    printf '%q ' "$CLOUD_ROOT/lib/in-namespace.sh" "$namespace" "$@" >"$RUN/$name.command"
    setsid "$CLOUD_ROOT/lib/in-namespace.sh" "$namespace" "$@" >>"$LOG/$name.out" 2>&1 </dev/null &
    pid=$!
    disown
    echo "$pid $(started_at "$pid")" >"$RUN/$name.pid"
}

# again NAME: starts what ended, by the command it was started with.
again() {
    local pid
    pid_of "$1" >/dev/null && return
    [ -s "$RUN/$1.command" ] || die "$1 was never started"
    setsid bash -c "exec $(cat "$RUN/$1.command")" >>"$LOG/$1.out" 2>&1 </dev/null &
    pid=$!
    disown
    echo "$pid $(started_at "$pid")" >"$RUN/$1.pid"
}

# stop NAME [SECONDS]: SIGTERM, then SIGKILL to the whole group.
stop() {
    local name=$1 tenths=$((${2:-5} * 10)) pid
    pid=$(pid_of "$name") || {
        rm -f "$RUN/$name.pid"
        return 0
    }
    kill -CONT -- "-$pid" 2>/dev/null || true
    kill -TERM "$pid" 2>/dev/null || true
    while [ $tenths -gt 0 ] && pid_of "$name" >/dev/null; do
        sleep 0.1
        tenths=$((tenths - 1))
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
    rm -f "$RUN/$name.pid"
}

# wait_for WHAT SECONDS COMMAND...: until the command succeeds.
wait_for() {
    local what=$1 deadline=$((SECONDS + $2 * PATIENCE))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || die "waited for $what in vain; look into $LOG"
        sleep 0.2
    done
}

answers() { curl -s -o /dev/null --max-time 5 "http://$CONTROL_IP:$1/"; }

listens() { (exec 3<>"/dev/tcp/$CONTROL_IP/$1"); }

phase_start=$EPOCHREALTIME
phase() {
    local now=$EPOCHREALTIME
    awk -v a="$phase_start" -v b="$now" -v t="$1" 'BEGIN { printf "    %-52s %6.1f s\n", t, b - a }' | tee -a "$LOG/phases.log"
    phase_start=$now
}
