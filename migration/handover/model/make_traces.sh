#!/bin/bash
# Runs of model/handover.pml for the conformance test: random ones of each kind, without repeats, to standard output.
# `make_traces.sh COUNT >tests/data/handover/traces.txt` after every change of the model.
set -eu
count=${1:-40}
model=$(dirname "$(readlink -f "$0")")/handover.pml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
number=0
while read -r kills cuts disks fences shared calm; do
    for ((seed = 1; seed <= count; ++seed)); do
        number=$((number + 1))
        spin -DKILLS="$kills" -DCUTS="$cuts" -DDISKS="$disks" -DFENCES="$fences" -DSHARED="$shared" -DCALM="$calm" -n"$seed" "$model" |
            sed -nE 's/^ *((step|is) .*)/\1/p' >"$work/$number"
        sed -i "1i run shared=$shared" "$work/$number"
    done
done <<'KINDS'
2 2 2 1 1 0
2 2 2 0 0 0
0 0 0 0 1 1
0 2 0 0 1 1
1 2 0 0 1 1
1 2 0 0 0 1
0 2 1 0 1 1
0 2 2 0 0 1
0 2 0 1 1 1
2 2 2 1 1 1
KINDS
cd "$work"
sha256sum -- * | sort -k1,1 -k2,2n | awk '!seen[$1]++ { print $2 }' | sort -n | xargs cat
