#!/bin/sh
# in-namespace.sh NAMESPACE COMMAND...: the command with the network of that namespace ("-": of this one) and a
# /sys that shows it. Unlike `ip netns exec` it keeps the control groups below /sys, which kumoi's guests need.
namespace=$1
shift
if [ "$namespace" = - ]; then exec "$@"; fi
if [ -z "$IN_NAMESPACE_STEP" ]; then
    IN_NAMESPACE_STEP=1 exec nsenter --net="/run/netns/$namespace" unshare --mount --propagation slave "$0" "$namespace" "$@"
fi
unset IN_NAMESPACE_STEP
old=$(mktemp -d) && mount --rbind /sys/fs/cgroup "$old" && mount -t sysfs sysfs /sys &&
    mount --rbind "$old" /sys/fs/cgroup && umount -l "$old" && rmdir "$old" || exit 1
exec "$@"
