#!/bin/bash
# Proves model/handover.pml: every number and kind of failure below, with shared disks and with own ones, with a
# connection that comes back, one that does not, and a host that is cut off. Then breaks the protocol in each way of
# `mutants` and sees that the proof fails: what cannot fail proves nothing. One line a run; status 1 at the first surprise.
# Needs spin and a C compiler (packages of devstack/packages.txt).
set -eu
model=$(dirname "$(readlink -f "$0")")/handover.pml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# verify FILE KILLS CUTS DISKS FENCES SHARED RECONNECT: prints the errors and the states
verify() {
    local flags=(-DKILLS="$2" -DCUTS="$3" -DDISKS="$4" -DFENCES="$5" -DSHARED="$6" -DRECONNECT="$7")
    spin "${flags[@]}" -a "$1" >spin.out 2>&1 || { cat spin.out; return 1; }
    ${CC:-cc} -O0 -w -DSAFETY -DNOREDUCE -o pan pan.c
    ./pan -m100000 >pan.out 2>&1
    errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.out)
    states=$(sed -n 's/ *\([0-9]*\) states, stored.*/\1/p' pan.out)
}

for reconnect in 1 0 2; do
    for shared in 1 0; do
        while read -r kills cuts disks fences; do
            if [ "$shared" = 0 ] && [ "$fences" != 0 ]; then
                continue  # nothing tells whether the guest ran on a host that is off: an operator decides
            fi
            verify "$model" "$kills" "$cuts" "$disks" "$fences" "$shared" "$reconnect"
            echo "proved kills=$kills cuts=$cuts disks=$disks fences=$fences shared=$shared reconnect=$reconnect states=$states errors=$errors"
            if [ "$errors" != 0 ]; then
                spin -DKILLS="$kills" -DCUTS="$cuts" -DDISKS="$disks" -DFENCES="$fences" -DSHARED="$shared" \
                    -DRECONNECT="$reconnect" -t "$model" || true
                exit 1
            fi
        done <<'RUNS'
1 2 0 0
0 2 1 0
0 2 0 1
2 2 2 0
2 2 2 2
RUNS
    done
done

# name | kills cuts disks fences shared reconnect | sed expression
while IFS='|' read -r name failures expression; do
    sed "$expression" "$model" >mutant.pml
    if cmp -s mutant.pml "$model"; then
        echo "mutant $name changes nothing: its expression is out of date"
        exit 1
    fi
    # shellcheck disable=SC2086  # six words
    verify mutant.pml $failures
    echo "mutant $name errors=$errors"
    [ "$errors" != 0 ] || exit 1
done <"${model%/*}/mutants"
