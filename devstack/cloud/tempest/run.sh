#!/usr/bin/env bash
# run.sh [--list] [REGEX | @FILE] : runs tempest against the running test cloud and adds the results to the file
# $RESULTS (default: one for each build in $CACHE/tempest), from which report.py makes docs/reference/tempest.md.
# REGEX defaults to what Nova's own libvirt jobs (nova-next, nova-multi-cell) run of the compute API: all of it.
# @FILE names tests, or classes, one a line; # starts a remark.
# CONCURRENCY=1: tests at a time; LIMIT=SECONDS: stop then. The exit status is tempest's.
# --list: only names the tests, and keeps the names in $CACHE/tempest-list.
set -euo pipefail
# shellcheck source=../settings.sh
source "$(dirname "$0")/../settings.sh"
here=$CLOUD_ROOT/tempest
work=$STATE/tempest
list=
if [ "${1:-}" = --list ]; then
    list=yes
    shift
fi
wanted=${1:-^tempest\.api\.compute\.}
case $wanted in @[!/]*) wanted=@$PWD/${wanted#@} ;; esac
driver=$COMPUTE
[ "$COMPUTE" != kumoi ] || [ "$KUMOI_DRIVER" = kumoi ] || driver=$KUMOI_DRIVER
build=$(git -C "$CLOUD_ROOT" rev-parse --short=10 HEAD 2>/dev/null || echo unknown)
results=${RESULTS:-$CACHE/tempest/$driver-$build.json}

# Not while a test program has the cloud; one that runs this says that it holds the lock.
if [ -z "${KUMOI_CLOUD_LOCKED:-}" ]; then
    exec 9>/run/lock/kumoi-cloud
    flock 9
fi
mkdir -p "$work" "$STATE/lock/tempest" "$(dirname "$results")" "$CACHE"
cd "$work"
export HOME=$work # tempest keeps its list of workspaces in the home folder
/usr/bin/python3 "$here/conf.py" "$STATE" "$CONTROL_IP" "$PASSWORD" "$COMPUTE" >tempest.conf
printf '[DEFAULT]\ntest_path=%s\ntop_dir=%s\ngroup_regex=([^\\.]*\\.)*\n' \
    /usr/lib/python3/dist-packages/tempest/test_discover /usr/lib/python3/dist-packages >.stestr.conf
[ -d .stestr ] || stestr init
command=(tempest run --config-file "$work/tempest.conf" --concurrency "${CONCURRENCY:-1}")
if [ -n "$list" ]; then
    "${command[@]}" --list-tests --regex "$wanted" | tee "$CACHE/tempest-list"
    exit
fi
case $wanted in
@*)
    # Names have the tests' identifiers behind them, which nobody wants to write down.
    "${command[@]}" --list-tests --regex '^tempest\.api\.compute\.' >all
    sed 's/#.*//; s/\[.*//; s/[[:space:]]*$//; /^$/d; s/\./\\./g; s/.*/^&(\\.|\\[|$)/' "${wanted#@}" >names
    grep -E -f names all >chosen || {
        echo "run.sh: ${wanted#@} names no test" >&2
        exit 2
    }
    command+=(--load-list chosen)
    ;;
*) command+=(--regex "$wanted") ;;
esac
status=0
rm -f .stestr/tmp*
timeout "${LIMIT:-0}" "${command[@]}" || status=$?
# What a run that was stopped has seen is in a file of its own, in the older form.
if compgen -G '.stestr/tmp*' >/dev/null; then
    cat .stestr/tmp* | subunit-1to2 >last.subunit
else
    stestr last --subunit >last.subunit
fi
/usr/bin/python3 "$here/report.py" add last.subunit "$driver" "$build" "$results"
exit $status
