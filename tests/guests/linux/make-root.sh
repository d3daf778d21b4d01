#!/bin/sh
# Makes the test guest's root image "kumoi-tiny" and its small initrd, without root rights:
#   kumoi-tiny.raw   16 MiB ext2, unpartitioned: Debian's busybox, unmodified, and kumoi-init
#   initrd.cpio      kumoi-init alone, not compressed (unpacking gzip in an emulated ring 0 takes long)
# Prints the folder that holds both. Needs: busybox-static e2fsprogs cpio gcc. A second, then instant.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${KUMOI_CACHE:-/var/cache/kumoi}/guests

fail() { echo "make-root.sh: $1" >&2; exit 1; }
missing() { echo "make-root.sh: SKIP: $1" >&2; exit 77; }   # 77: skipped, for ctest

PATH=$PATH:/sbin:/usr/sbin
for tool in gcc cpio mke2fs; do
    command -v $tool >/dev/null || missing "$tool is missing: install gcc, cpio and e2fsprogs"
done
busybox=$(dpkg -L busybox-static 2>/dev/null | grep '/busybox$' | head -n 1)
[ -x "$busybox" ] || missing "busybox is missing: run 'apt-get install busybox-static' first"
inputs=$(cat "$here/make-root.sh" "$here"/init/* "$busybox" | sha256sum | cut -c1-16)
out=$cache/root-$inputs
[ "${1:-}" != --print ] || { echo "$out"; exit 0; }
if [ -e "$out/kumoi-tiny.raw" ]; then
    echo "$out"
    exit 0
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/root.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$work/done" "$root/bin" "$root/sbin" "$root/etc" "$root/root" "$root/proc" "$root/sys" \
    "$root/dev" "$root/run" "$root/tmp" "$root/var" "$root/mnt" "$root/usr"
gcc -std=gnu17 -D_GNU_SOURCE -O2 -static -Wall -Wextra -Werror -o "$root/sbin/init" "$here"/init/*.c
strip "$root/sbin/init"

cp "$busybox" "$root/bin/busybox"
ln -s ../bin "$root/usr/bin"
ln -s ../sbin "$root/usr/sbin"
for applet in $("$busybox" --list); do
    [ "$applet" = init ] || [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
echo '127.0.0.1 localhost' >"$root/etc/hosts"
printf 'NAME="kumoi-tiny"\nID=kumoi-tiny\nPRETTY_NAME="kumoi test guest"\n' >"$root/etc/os-release"
cat >"$root/etc/profile" <<'PROFILE'
export PS1='\h:\w\$ '
cd /root
PROFILE

# Fixed times and identifiers: the same inputs give the same bytes.
find "$root" -exec touch -h -d @0 {} +
truncate -s 16M "$work/done/kumoi-tiny.raw"
E2FSPROGS_FAKE_TIME=1 mke2fs -q -t ext2 -b 4096 -m 0 -L kumoi-tiny -I 256 -O ^resize_inode \
    -U 6b756d6f-692d-4074-b96e-790000000001 -E root_owner=0:0,hash_seed=6b756d6f-692d-4074-b96e-790000000002 \
    -d "$root" "$work/done/kumoi-tiny.raw" >&2
mkdir -p "$work/initrd/dev"
cp "$root/sbin/init" "$work/initrd/init"
(cd "$work/initrd" && find . | cpio -o -H newc -R 0:0 --quiet >"$work/done/initrd.cpio")
mv -T "$work/done" "$out" 2>/dev/null || [ -e "$out/kumoi-tiny.raw" ] || fail "cannot create $out"
echo "$out"
