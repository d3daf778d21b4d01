#!/usr/bin/env bash
# run.sh [--list] [REGEX | @FILE] : runs tempest against the running test cloud and adds the results to
# $CACHE/tempest-results.json, from which report.py makes docs/reference/tempest.md. REGEX defaults to what Nova's
# own libvirt jobs (nova-next, nova-multi-cell) run of the compute API: all of it. @FILE names tests, one a line.
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

exec 9>/run/lock/kumoi-cloud # not while a test program has the cloud
flock 9
mkdir -p "$work" "$STATE/lock/tempest"
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
@*) command+=(--load-list "${wanted#@}") ;;
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
/usr/bin/python3 "$here/report.py" add last.subunit "$COMPUTE" "$CACHE/tempest-results.json"
exit $status
