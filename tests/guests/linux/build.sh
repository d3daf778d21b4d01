#!/bin/sh
# Builds the Linux kernel of the test guest from Debian's linux-source-6.1, once per machine and inputs.
# Prints the folder that holds vmlinux (ELF with PVH entry, stripped) and bzImage. `full` as last word: the
# flavour with full.config merged over it, which has the drivers that only some tests need.
# Needs: linux-source-6.1 bc bison flex libelf-dev lz4 make gcc. About 10 minutes on 2 cores, then instant.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${KUMOI_CACHE:-/var/cache/kumoi}/guests
tarball=/usr/src/linux-source-6.1.tar.xz

print=
configs=$here/kernel.config
for word in "$@"; do
    case $word in
        --print) print=yes ;;
        full) configs="$configs $here/full.config" ;;
        *) echo "usage: build.sh [--print] [full]" >&2; exit 2 ;;
    esac
done

fail() { echo "build.sh: $1" >&2; exit 1; }
missing() { echo "build.sh: SKIP: $1" >&2; exit 77; }   # 77: skipped, for ctest

version=$(dpkg-query -W -f '${Version}' linux-source-6.1 2>/dev/null) && [ -r $tarball ] ||
    missing "Debian's kernel source is missing: run 'apt-get install linux-source-6.1' first"
inputs=$( (echo "$version"; cat $configs "$here/slow-kvm.patch") | sha256sum | cut -c1-16)
out=$cache/linux-$inputs
[ -z "$print" ] || { echo "$out"; exit 0; }
if [ -e "$out/bzImage" ]; then
    echo "$out"
    exit 0
fi
for tool in bc bison flex lz4 make gcc patch; do
    command -v $tool >/dev/null || missing "$tool is missing: install the Debian package of that name"
done

mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9                                   # two builds at once would cost both twice the time
if [ ! -e "$out/bzImage" ]; then
    work=$(mktemp -d "$cache/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "build.sh: kernel $version, about 10 minutes, log in $out.log" >&2
    tar -xJf $tarball -C "$work" --strip-components=1
    cd "$work"
    patch -s -p1 <"$here/slow-kvm.patch"
    if command -v ccache >/dev/null; then cc="ccache gcc"; else cc=gcc; fi
    {
        make -s tinyconfig
        scripts/kconfig/merge_config.sh -m .config $configs
        make -s olddefconfig
        cp .config "$out.config"
        nice -n 5 make -s -j"${KUMOI_JOBS:-$(nproc)}" CC="$cc" \
            KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=kumoi KBUILD_BUILD_HOST=guest bzImage
    } >"$out.log" 2>&1 9>&- || fail "the kernel build failed; see the end of $out.log"
    mkdir "$work/done"
    strip -o "$work/done/vmlinux" vmlinux
    cp arch/x86/boot/bzImage "$work/done/"
    cp .config "$work/done/config"
    cp System.map "$work/done/"
    mv "$work/done" "$out"                # appears whole or not at all
    rm -f "$out.config"
fi
echo "$out"
