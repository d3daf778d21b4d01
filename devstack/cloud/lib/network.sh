# shellcheck shell=bash disable=SC2154  # names come from settings.sh
# The machine's shape: one namespace for the control plane, one a node, all on one bridge; this machine's own
# namespace has an end of it too, so that clients reach the services. They go with their namespaces.

make_namespace() {
    ip netns list | grep -qw "^$1" || ip netns add "$1"
    ip -n "$1" link set lo up
}

# join NAMESPACE ADDRESS: a wire from there to the bridge. "-" is this machine's own namespace.
join() {
    local inside=(ip -n "$1") port=p-${1#kumoi-}
    if [ "$1" = - ]; then
        inside=(ip)
        port=p-outside
    fi
    ip -n "$CONTROL_NS" link show "$port" >/dev/null 2>&1 && return
    "${inside[@]}" link add eth-kumoi type veth peer name "$port" netns "$CONTROL_NS"
    "${inside[@]}" address add "$2/$MANAGEMENT_PREFIX" dev eth-kumoi
    "${inside[@]}" link set eth-kumoi up
    ip -n "$CONTROL_NS" link set "$port" master management up
}

network_up() {
    local node
    make_namespace "$CONTROL_NS"
    if ! ip -n "$CONTROL_NS" link show management >/dev/null 2>&1; then
        ip -n "$CONTROL_NS" link add management type bridge
        ip -n "$CONTROL_NS" link set management up
        ip -n "$CONTROL_NS" address add "$CONTROL_IP/$MANAGEMENT_PREFIX" dev management
    fi
    join - "$OUTSIDE_IP"
    for node in $NODES; do
        make_namespace "$node"
        join "$node" "$(node_ip "$node")"
        [ "$WITH_PROXY" = 0 ] || ip -n "$CONTROL_NS" address replace "$(proxy_ip "$node")/$MANAGEMENT_PREFIX" dev management
    done
    for node in $CONTROL_NS $NODES; do
        # The management bridge's own frames need no look by iptables; Neutron's agent turns it on where it filters.
        ip netns exec "$node" sysctl -qw net.ipv6.conf.default.accept_dad=0
    done
}

# The network "public", where Neutron's routers have their outer ends: this machine's namespace reaches it.
public_up() {
    if ! ip -n "$CONTROL_NS" link show br-outside >/dev/null 2>&1; then
        ip -n "$CONTROL_NS" link add br-outside type bridge
        ip -n "$CONTROL_NS" address add 172.24.4.1/24 dev br-outside
        ip -n "$CONTROL_NS" link set br-outside up
    fi
    ip netns exec "$CONTROL_NS" sysctl -qw net.ipv4.ip_forward=1
    ip route replace 172.24.4.0/24 via "$CONTROL_IP"
}

network_down() {
    local namespace
    for namespace in $(ip netns list | grep -o '^qrouter-[^ ]*'); do # those whose wires end here
        ip -n "$namespace" link | grep -qw "link-netns $CONTROL_NS" && ip netns del "$namespace"
    done
    ip link del eth-kumoi 2>/dev/null
    for namespace in $NODES $CONTROL_NS; do ip netns del "$namespace" 2>/dev/null; done
    return 0
}
