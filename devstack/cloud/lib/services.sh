# shellcheck shell=bash disable=SC2154,SC2086  # names come from settings.sh, and they are single words
# How each process of the cloud is started. The names here are those that lib/fault.sh and the tests use.

start_rabbit() {
    # shellcheck disable=SC2016
    start epmd "$CONTROL_NS" epmd -address 127.0.0.1 -port 4369
    start rabbit "$CONTROL_NS" bash -c ". $ETC/rabbit/environment; exec /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"
}

# rabbitmqctl of this broker; the shell script behind it needs the same environment.
rabbit_control() {
    "$CLOUD_ROOT/lib/in-namespace.sh" "$CONTROL_NS" bash -c \
        ". $ETC/rabbit/environment; exec /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmqctl -q $*"
}

# Only its socket lets anybody in, and only root gets at that. What is lost in a power cut is test data.
start_mariadb() {
    start mariadb "$CONTROL_NS" mariadbd --no-defaults --user=root --datadir="$STATE/db" --socket="$MYSQL_SOCKET" \
        --pid-file="$RUN/mariadb.real-pid" --skip-networking --skip-grant-tables --max-connections=1000 \
        --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0 --sync-binlog=0 --innodb-log-file-size=16M \
        --innodb-buffer-pool-size=192M --character-set-server=utf8mb3 --collation-server=utf8mb3_general_ci
    wait_for "MariaDB" 300 sql 'select 1'
}

sql() { mysql --no-defaults -S "$MYSQL_SOCKET" -e "$1"; }

# rest NAME PORT WSGI-FILE [VARIABLE=VALUE] [ARGUMENTS OF THE PROGRAM]
# "Connection: close": uwsgi's HTTP socket serves one request a connection but does not say so, and a client that
# sends its next one meets a closed socket.
rest() {
    local words=()
    [ -z "${5:-}" ] || words=(--pyargv "$5")
    start "$1" "$CONTROL_NS" env ${4:+"$4"} uwsgi_python3 --http-socket "$CONTROL_IP:$2" --wsgi-file "$3" --master \
        --processes "$WORKERS" --enable-threads --lazy-apps --need-app --die-on-term --no-orphans --listen 100 \
        --thunder-lock --buffer-size 65535 --add-header "Connection: close" --rem-header Content-Length \
        --disable-logging --procname-prefix "$1 " "${words[@]}"
}

start_keystone() {
    rest keystone $KEYSTONE_PORT /usr/bin/keystone-wsgi-public OS_KEYSTONE_CONFIG_DIR="$ETC/keystone"
}
start_glance() { rest glance $GLANCE_PORT /usr/bin/glance-wsgi-api OS_GLANCE_CONFIG_DIR="$ETC/glance"; }
start_placement() {
    rest placement $PLACEMENT_PORT /usr/bin/placement-api OS_PLACEMENT_CONFIG_DIR="$ETC/placement"
}

start_nova() {
    local one
    rest nova-api $NOVA_PORT /usr/bin/nova-api-wsgi OS_NOVA_CONFIG_DIR="$ETC/nova"
    [ "$WITH_AGENTS" = 0 ] || rest nova-metadata $METADATA_PORT /usr/bin/nova-metadata-wsgi OS_NOVA_CONFIG_DIR="$ETC/nova"
    for one in nova-conductor nova-scheduler; do
        start $one "$CONTROL_NS" $one --config-file "$ETC/nova/nova.conf" --log-file "$LOG/$one.log"
    done
    [ "$WITH_NOVNC" = 1 ] || return 0
    start nova-novncproxy "$CONTROL_NS" nova-novncproxy --config-file "$ETC/nova/nova.conf" \
        --log-file "$LOG/nova-novncproxy.log" --web /usr/share/novnc
    start nova-serialproxy "$CONTROL_NS" nova-serialproxy --config-file "$ETC/nova/nova.conf" \
        --log-file "$LOG/nova-serialproxy.log"
}

start_neutron() {
    local common=(--config-file "$ETC/neutron/neutron.conf") node
    start neutron "$CONTROL_NS" env PYTHONPATH="$CLOUD_ROOT/drivers" neutron-server "${common[@]}" \
        --config-file "$ETC/neutron/ml2.ini" --log-file "$LOG/neutron.log"
    wait_for Neutron 300 answers $NEUTRON_PORT
    [ "$WITH_AGENTS" = 1 ] || return 0
    for node in kumoi-control $NODES; do
        if [ "$NETWORK" = ovs ]; then start_ovs_agent "$node"; else start_bridge_agent "$node"; fi
    done
    # Not in-namespace.sh: the namespaces this agent makes must be seen by all.
    start neutron-dhcp - nsenter --net="/run/netns/$CONTROL_NS" env OVS_RUNDIR="$(ovs_folder "$CONTROL_NS")" \
        neutron-dhcp-agent "${common[@]}" --config-file "$ETC/neutron/dhcp.ini" \
        --config-file "$ETC/neutron/metadata.ini" --log-file "$LOG/neutron-dhcp.log"
    [ "$WITH_L3" = 0 ] || start neutron-l3 - nsenter --net="/run/netns/$CONTROL_NS" neutron-l3-agent "${common[@]}" \
        --config-file "$ETC/neutron/l3.ini" --log-file "$LOG/neutron-l3.log"
    start neutron-metadata "$CONTROL_NS" neutron-metadata-agent "${common[@]}" \
        --config-file "$ETC/neutron/metadata.ini" --log-file "$LOG/neutron-metadata.log"
}

start_bridge_agent() { # NODE
    start "bridge-agent-$1" "$1" env PATH="$CLOUD_ROOT/bin:$PATH" neutron-linuxbridge-agent --config-file "$ETC/neutron/neutron.conf" \
        --config-file "$ETC/neutron/bridge-$1.ini" --log-file "$LOG/bridge-agent-$1.log"
}

start_cinder() {
    local conf=$ETC/cinder/cinder.conf mount
    start tgtd "$CONTROL_NS" tgtd -f --iscsi portal="$CONTROL_IP:$ISCSI_PORT"
    if [ "$WITH_NFS" = 1 ]; then start_nfs; fi
    if [ "$WITH_CEPH" = 1 ]; then
        "$CLOUD_ROOT/lib/in-namespace.sh" "$CONTROL_NS" "$CLOUD_ROOT/../ceph.sh" up "$STATE/ceph" "$CONTROL_IP"
        "$CLOUD_ROOT/lib/in-namespace.sh" "$CONTROL_NS" "$CLOUD_ROOT/../ceph.sh" manager "$STATE/ceph"
    fi
    rest cinder-api $CINDER_PORT /usr/bin/cinder-wsgi "" "--config-file $conf --log-file $LOG/cinder-api.log"
    start cinder-scheduler "$CONTROL_NS" cinder-scheduler --config-file "$conf" --log-file "$LOG/cinder-scheduler.log"
    # Cinder would mount its NFS share. Here it is on the server itself, and a kernel without NFS can do this too:
    # the folder stands where the mount would be, so os-brick finds it mounted.
    mount=$STATE/cinder/mnt/$(printf '%s' "$CONTROL_IP:/volumes" | md5sum | cut -d' ' -f1)
    mkdir -p "$mount"
    # shellcheck disable=SC2016
    start cinder-volume "$CONTROL_NS" env PYTHONPATH="$CLOUD_ROOT/drivers" sh -c \
        'mount --bind "$1" "$2" && shift 2 && exec "$@"' - "$STATE/nfs" "$mount" \
        cinder-volume --config-file "$conf" --log-file "$LOG/cinder-volume.log"
}

start_nfs() {
    cat >"$ETC/cinder/ganesha.conf" <<X
NFS_CORE_PARAM { Bind_addr = $CONTROL_IP; NFS_Port = $NFS_PORT; Protocols = 3, 4; mount_path_pseudo = true; MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false; }
NFSv4 { RecoveryRoot = $STATE/ganesha; Grace_Period = 5; Lease_Lifetime = 10; Graceless = true; }
EXPORT { Export_Id = 1; Path = $STATE/nfs; Pseudo = /volumes; Access_Type = RW; Squash = no_root_squash; SecType = sys; FSAL { Name = VFS; } }
LOG { Default_Log_Level = WARN; }
X
    mkdir -p "$STATE/ganesha"
    # qemu's NFS client speaks version 3 only, whose port is asked of rpcbind.
    start rpcbind "$CONTROL_NS" rpcbind -f -h "$CONTROL_IP"
    wait_for rpcbind 120 listens 111
    start nfs "$CONTROL_NS" ganesha.nfsd -F -f "$ETC/cinder/ganesha.conf" -L "$LOG/ganesha.log" -p "$RUN/ganesha.real-pid"
}

start_proxy() {
    local words=() node
    for node in $NODES; do words+=("$node=$(proxy_ip "$node")"); done
    start proxy "$CONTROL_NS" /usr/bin/python3 "$CLOUD_ROOT/faults/proxy.py" --socket "$RUN/proxy.sock" --to "$CONTROL_IP" \
        --ports "rabbit=$RABBIT_PORT,keystone=$KEYSTONE_PORT,glance=$GLANCE_PORT,placement=$PLACEMENT_PORT,nova=$NOVA_PORT,neutron=$NEUTRON_PORT,cinder=$CINDER_PORT,iscsi=$ISCSI_PORT" \
        "${words[@]}"
}

# The compute service of one node.
start_compute() { # NODE
    case $COMPUTE in
    none) ;;
    python) # what /usr/bin/nova-compute of the package nova-compute runs; that package would bring libvirt along
        start "nova-compute-$1" "$1" /usr/bin/python3 -c \
            'import sys; from nova.cmd.compute import main; sys.argv[0] = "nova-compute"; sys.exit(main())' \
            --config-file "$ETC/$1/nova.conf"
        ;;
    kumoi)
        local program
        for program in kumoi-compute kumoi-vmm kumoi-img; do
            [ -x "$KUMOI_BUILD/bin/$program" ] || die "$KUMOI_BUILD/bin/$program is missing: build it, or set KUMOI_BUILD"
        done
        local words=(env "OVS_RUNDIR=$(ovs_folder "$1")" "$KUMOI_BUILD/bin/kumoi-compute" --config-file "$ETC/$1/nova.conf")
        if [ "$WITH_CEPH" = 1 ]; then # what a host of a Ceph has in /etc/ceph
            # shellcheck disable=SC2016
            words=(sh -c 'mkdir -p /etc/ceph && mount --bind "$0" /etc/ceph && exec "$@"' "$STATE/ceph" "${words[@]}")
        fi
        start "nova-compute-$1" "$1" "${words[@]}"
        ;;
    *) die "KUMOI_CLOUD_COMPUTE is $COMPUTE: python, kumoi or none" ;;
    esac
}
