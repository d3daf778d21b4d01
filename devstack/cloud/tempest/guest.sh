#!/usr/bin/env bash
# guest.sh ROOT-IMAGE OUT: the test guest with what tempest's validation asks of a guest over SSH: Debian's dropbear, and
# curl, sudo and lsblk as far as tempest uses them.
set -euo pipefail
source=$1 out=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp --reflink=auto "$source" "$out.part"

cat >"$work/profile" <<'X'
export PS1='\h:\w\$ '
cd /root
[ -e /run/dropbear.pid ] || dropbear -R -s -P /run/dropbear.pid
X
cat >"$work/sudo" <<'X'
#!/bin/sh
exec "$@"
X
cat >"$work/curl" <<'X'
#!/bin/sh
for word; do :; done
case $word in -V) echo curl by wget ;; *) exec wget -q -O - "$word" ;; esac
X
cat >"$work/lsblk" <<'X'
#!/bin/sh
echo 'NAME MAJ:MIN RM       SIZE RO TYPE MOUNTPOINTS'
for disk in /sys/block/vd* /sys/block/sd*; do
    [ -e "$disk/dev" ] || continue
    printf '%-4s %7s %2d %10d %2d disk \n' "${disk##*/}" "$(cat "$disk/dev")" 0 $(($(cat "$disk/size") * 512)) "$(cat "$disk/ro")"
done
X
{
    for folder in /lib /lib64 /etc/dropbear /lib/x86_64-linux-gnu; do echo "mkdir $folder"; done
    echo "write /usr/sbin/dropbear /bin/dropbear"
    echo "sif /bin/dropbear mode 0100755"
    ldd /usr/sbin/dropbear | grep -o '/[^ ]*' | while read -r library; do
        echo "write $(readlink -f "$library") $library"
        echo "sif $library mode 0100755"
    done
    echo "rm /etc/profile"
    echo "write $work/profile /etc/profile"
    for tool in sudo curl lsblk; do
        echo "rm /bin/$tool"
        echo "write $work/$tool /bin/$tool"
        echo "sif /bin/$tool mode 0100755"
    done
} >"$work/commands"
debugfs -w -f "$work/commands" "$out.part" >"$work/said" 2>&1
# debugfs ends with 0 whatever happens.
if ! debugfs -R "stat /bin/dropbear" "$out.part" 2>/dev/null | grep -q 'Type: regular' ||
    ! e2fsck -fn "$out.part" >>"$work/said" 2>&1; then
    cat "$work/said" >&2
    exit 1
fi
mv "$out.part" "$out"
