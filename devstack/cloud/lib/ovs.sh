# shellcheck shell=bash disable=SC2154  # names come from settings.sh
# Open vSwitch in the place of Linux bridges (KUMOI_CLOUD_NETWORK=ovs): each host has one of its own, in user space
# (datapath netdev), because small kernels have no module for it. Tenants' networks are VLANs on a second wire,
# eth-data; OVS writes the tags, so the kernel needs none of 802.1Q.

ovs_conf() { # HOST
    cat >"$ETC/neutron/ovs-$1.ini" <<X
[DEFAULT]
host = $1
state_path = $STATE/neutron-$1
transport_url = $(transport_url "$CONTROL_IP")
[ovs]
datapath_type = netdev
ovsdb_connection = unix:$(ovs_folder "$1")/db.sock
bridge_mappings = data:br-data
of_listen_address = 127.0.0.1
[securitygroup]
enable_security_group = true
firewall_driver = openvswitch
[agent]
polling_interval = 1
X
}

# The wire that carries tenants' networks: every host on one bridge of the control plane's namespace.
data_network_up() {
    local host
    if ! ip -n "$CONTROL_NS" link show data >/dev/null 2>&1; then
        ip -n "$CONTROL_NS" link add data type bridge
        ip -n "$CONTROL_NS" link set data up
    fi
    for host in "$CONTROL_NS" $NODES; do
        ip -n "$host" link show eth-data >/dev/null 2>&1 && continue
        ip -n "$host" link add eth-data type veth peer name "d-${host#kumoi-}" netns "$CONTROL_NS"
        ip -n "$host" link set eth-data up
        ip -n "$CONTROL_NS" link set "d-${host#kumoi-}" master data up
    done
}

# ovs HOST COMMAND...: ovs-vsctl and its like, with that host's switch.
ovs() {
    local host=$1
    shift
    "$CLOUD_ROOT/lib/in-namespace.sh" "$host" env OVS_RUNDIR="$(ovs_folder "$host")" "$@"
}

start_ovs() { # HOST
    local folder
    folder=$(ovs_folder "$1")
    mkdir -p "$folder"
    [ -e "$folder/conf.db" ] || ovsdb-tool create "$folder/conf.db" /usr/share/openvswitch/vswitch.ovsschema
    start "ovsdb-$1" "$1" env OVS_RUNDIR="$folder" ovsdb-server "$folder/conf.db" --remote="punix:$folder/db.sock" \
        --pidfile="$folder/ovsdb.pid" --unixctl="$folder/ovsdb.ctl"
    wait_for "the data base of Open vSwitch on $1" 60 ovs "$1" ovs-vsctl --no-wait --timeout=5 \
        -- init -- set Open_vSwitch . other_config:userspace-tso-enable=true # guests leave checksums to the host
    start "ovs-$1" "$1" env OVS_RUNDIR="$folder" ovs-vswitchd "unix:$folder/db.sock" --pidfile="$folder/vswitchd.pid" \
        --unixctl="$folder/vswitchd.ctl"
    wait_for "Open vSwitch on $1" 60 ovs "$1" ovs-vsctl --timeout=10 -- --may-exist add-br br-data \
        -- set bridge br-data datapath_type=netdev -- --may-exist add-port br-data eth-data
}

start_ovs_agent() { # HOST
    start_ovs "$1"
    start "ovs-agent-$1" "$1" env OVS_RUNDIR="$(ovs_folder "$1")" neutron-openvswitch-agent \
        --config-file "$ETC/neutron/neutron.conf" --config-file "$ETC/neutron/ovs-$1.ini" --log-file "$LOG/ovs-agent-$1.log"
}
