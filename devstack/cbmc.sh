#!/bin/sh
# Installs CBMC, which tests/proofs needs. Debian 12 has no package of it; that of Debian 11 runs on
# it unchanged. Nothing else is taken from there: the package list lives in a folder of its own.
set -eu

if command -v cbmc >/dev/null; then
    cbmc --version
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
mkdir -p "$folder/lists/partial" "$folder/archives/partial"
echo "deb http://deb.debian.org/debian bullseye main" >"$folder/sources.list"
bullseye() {
    apt-get -qq -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$folder/lists" -o Dir::Cache::archives="$folder/archives" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "$@"
}
bullseye update
(cd "$folder" && bullseye download cbmc)
apt-get install -y "$folder"/cbmc_*.deb
