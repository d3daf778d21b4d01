# shellcheck shell=bash disable=SC2154  # names come from settings.sh
# Writes the configuration of every service below $ETC. Each function writes one service's files.

auth() { # USER [ADDRESS of Keystone]
    cat <<X
auth_type = password
auth_url = http://${2:-$CONTROL_IP}:$KEYSTONE_PORT/v3
project_domain_name = Default
user_domain_name = Default
project_name = service
username = $1
password = $PASSWORD
region_name = $REGION
X
}

authtoken() { # USER [ADDRESS]
    cat <<X
[keystone_authtoken]
www_authenticate_uri = http://$CONTROL_IP:$KEYSTONE_PORT/v3
service_token_roles = service
service_token_roles_required = true
$(auth "$@")
X
}

transport_url() { echo "rabbit://openstack:$PASSWORD@${1:-$CONTROL_IP}:$RABBIT_PORT/"; }

rabbit_conf() {
    cat >"$ETC/rabbit/rabbitmq.conf" <<X
listeners.tcp.1 = $CONTROL_IP:$RABBIT_PORT
default_user = openstack
default_pass = $PASSWORD
log.file.level = warning
vm_memory_high_watermark.relative = 0.2
disk_free_limit.absolute = 64MB
X
    : >"$ETC/rabbit/enabled_plugins"
    cat >"$ETC/rabbit/environment" <<X
export HOME=$STATE/rabbit RABBITMQ_NODENAME=kumoi@localhost RABBITMQ_DIST_PORT=25672
export RABBITMQ_MNESIA_BASE=$STATE/rabbit/mnesia RABBITMQ_LOG_BASE=$LOG/rabbit
export RABBITMQ_CONFIG_FILE=$ETC/rabbit/rabbitmq RABBITMQ_ENABLED_PLUGINS_FILE=$ETC/rabbit/enabled_plugins
export RABBITMQ_PID_FILE=$RUN/rabbit.beam ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=4369
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none'
X
}

keystone_conf() {
    cat >"$ETC/keystone/keystone.conf" <<X
[DEFAULT]
log_file = $LOG/keystone.log
debug = $DEBUG
[database]
connection = $(database_url keystone)
[identity]
# Passwords of tests need no second of work each.
password_hash_rounds = 4
[cache]
# One process: what it remembers itself is never out of date.
backend = $([ "$WORKERS" = 1 ] && echo oslo_cache.dict || echo dogpile.cache.null)
[token]
provider = fernet
expiration = 86400
[fernet_tokens]
key_repository = $STATE/keystone/fernet
[credential]
key_repository = $STATE/keystone/credential
[oslo_messaging_notifications]
driver = noop
X
}

glance_conf() {
    cp /etc/glance/glance-api-paste.ini /etc/glance/schema-image.json "$ETC/glance/"
    mkdir -p "$STATE"/glance/{images,staging,tasks}
    cat >"$ETC/glance/glance-api.conf" <<X
[DEFAULT]
log_file = $LOG/glance-api.log
debug = $DEBUG
enabled_backends = files:file
[database]
connection = $(database_url glance)
[glance_store]
default_backend = files
[files]
filesystem_store_datadir = $STATE/glance/images
[os_glance_staging_store]
filesystem_store_datadir = $STATE/glance/staging
[os_glance_tasks_store]
filesystem_store_datadir = $STATE/glance/tasks
[paste_deploy]
flavor = keystone
config_file = $ETC/glance/glance-api-paste.ini
$(authtoken glance)
[oslo_concurrency]
lock_path = $STATE/lock
X
}

placement_conf() {
    cat >"$ETC/placement/placement.conf" <<X
[DEFAULT]
log_file = $LOG/placement.log
debug = $DEBUG
[placement_database]
connection = $(database_url placement)
$(authtoken placement)
X
}

# The text that the control plane's and a node's nova.conf share. Arguments: the address of Keystone, RabbitMQ
# and the REST services as this reader of the file reaches them.
nova_common() {
    cat <<X
[DEFAULT]
debug = $DEBUG
transport_url = $(transport_url "$1")
rpc_response_timeout = 60
report_interval = 5
service_down_time = 60
periodic_fuzzy_delay = 1
$2
$(authtoken nova "$1")
[service_user]
send_service_user_token = true
$(auth nova "$1")
[placement]
$(auth placement "$1")
$(override "$1" "$PLACEMENT_PORT")
[neutron]
$(auth neutron "$1")
$(override "$1" "$NEUTRON_PORT")
service_metadata_proxy = true
metadata_proxy_shared_secret = $PASSWORD
[glance]
$(override "$1" "$GLANCE_PORT")
[cinder]
$(auth cinder "$1")
$([ "$1" = "$CONTROL_IP" ] || echo "endpoint_template = http://$1:$CINDER_PORT/v3/%(project_id)s")
os_region_name = $REGION
[notifications]
notification_format = both
notify_on_state_change = vm_and_task_state
[oslo_messaging_notifications]
driver = $NOTIFICATIONS
X
}

# Behind the fault proxy a node must not follow the catalogue, which names the services themselves.
override() { [ "$1" = "$CONTROL_IP" ] || echo "endpoint_override = http://$1:$2"; }

nova_conf() {
    cp /etc/nova/api-paste.ini "$ETC/nova/"
    mkdir -p "$STATE/nova"
    {
        nova_common "$CONTROL_IP" "
my_ip = $CONTROL_IP
host = kumoi-control
state_path = $STATE/nova
osapi_compute_workers = $WORKERS
allow_resize_to_same_host = false"
        cat <<X
[api]
auth_strategy = keystone
[api_database]
connection = $(database_url nova_api)
[database]
connection = $(database_url nova)
[wsgi]
api_paste_config = $ETC/nova/api-paste.ini
[conductor]
workers = $WORKERS
[scheduler]
workers = $WORKERS
discover_hosts_in_cells_interval = 5
[filter_scheduler]
enabled_filters = ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter,ServerGroupAntiAffinityFilter,ServerGroupAffinityFilter,SameHostFilter,DifferentHostFilter
[quota]
instances = -1
cores = -1
ram = -1
key_pairs = -1
server_groups = -1
server_group_members = -1
[oslo_concurrency]
lock_path = $STATE/lock
[vnc]
enabled = true
novncproxy_host = $CONTROL_IP
novncproxy_port = $NOVNC_PORT
[serial_console]
serialproxy_host = $CONTROL_IP
serialproxy_port = $SERIAL_PORT
X
    } >"$ETC/nova/nova.conf"
}

# An ordinary nova.conf of a compute host, as any deployment tool would write it.
node_conf() { # NODE
    # Only a driver that plugs TAPs gives Neutron's agent something to wire, and an event to wait for.
    local services=$CONTROL_IP address plugs=0
    [ "$WITH_AGENTS-$COMPUTE-$KUMOI_DRIVER" != 1-kumoi-kumoi ] || plugs=1
    address=$(node_ip "$1")
    [ "$WITH_PROXY" = 0 ] || services=$(proxy_ip "$1")
    mkdir -p "$ETC/$1" "$STATE/$1/instances" "$STATE/$1/tmp"
    {
        nova_common "$services" "
host = $1
my_ip = $address
state_path = $STATE/$1
instances_path = $STATE/$1/instances
log_file = $LOG/nova-compute-$1.log
compute_driver = $([ "$COMPUTE" = python ] && echo "$PYTHON_DRIVER" || echo "$KUMOI_DRIVER")
vif_plugging_timeout = $((plugs * 180 * PATIENCE))
vif_plugging_is_fatal = $([ $plugs = 1 ] && echo true || echo false)
max_concurrent_builds = 10
reserved_host_memory_mb = 0
resume_guests_state_on_host_boot = false
shelved_offload_time = 0
$([ "$COMPUTE" != kumoi ] || echo "mode = openstack")"
        cat <<X
[vnc]
enabled = true
server_listen = $address
server_proxyclient_address = $address
novncproxy_base_url = http://$CONTROL_IP:$NOVNC_PORT/vnc_auto.html
[serial_console]
enabled = $([ "$COMPUTE" = kumoi ] && echo true || echo false)
base_url = ws://$CONTROL_IP:$SERIAL_PORT/
proxyclient_address = $address
[oslo_concurrency]
lock_path = $STATE/$1/tmp
X
        # Two hosts on one machine: each needs its own part of the one tree of control groups.
        [ "$COMPUTE" != kumoi ] || printf '[kumoi]\ncgroup_parent = %s\n' "$1"
        [ -z "$NOVA_CONF_EXTRA" ] || cat "$NOVA_CONF_EXTRA"
    } >"$ETC/$1/nova.conf"
}

neutron_conf() {
    local drivers=linuxbridge interface=linuxbridge tenants=vxlan
    [ "$WITH_AGENTS" = 1 ] || drivers=kumoi_cloud
    if [ "$NETWORK" = ovs ]; then drivers=openvswitch interface=openvswitch tenants=vlan; fi
    mkdir -p "$STATE/neutron"
    cat >"$ETC/neutron/neutron.conf" <<X
[DEFAULT]
debug = $DEBUG
state_path = $STATE/neutron
bind_host = $CONTROL_IP
bind_port = $NEUTRON_PORT
api_workers = $WORKERS
rpc_workers = 1
rpc_state_report_workers = 0
core_plugin = ml2
service_plugins = router,qos
api_paste_config = /etc/neutron/api-paste.ini
transport_url = $(transport_url)
notify_nova_on_port_status_changes = true
notify_nova_on_port_data_changes = true
send_events_interval = 0
dhcp_agents_per_network = 1
agent_down_time = 75
[agent]
# All of it is root already: a helper that passes its words on is enough.
root_helper = env
report_interval = 20
[database]
connection = $(database_url neutron)
[experimental]
linuxbridge = true
$(authtoken neutron)
[nova]
$(auth nova)
[placement]
$(auth placement)
[oslo_concurrency]
lock_path = $STATE/lock
[quotas]
default_quota = -1
quota_network = -1
quota_subnet = -1
quota_port = -1
quota_router = -1
quota_floatingip = -1
quota_security_group = -1
quota_security_group_rule = -1
[oslo_messaging_notifications]
driver = noop
X
    cat >"$ETC/neutron/ml2.ini" <<X
[ml2]
type_drivers = flat,vlan,vxlan,local
tenant_network_types = $tenants
mechanism_drivers = $drivers
extension_drivers = port_security,qos
[ml2_type_flat]
flat_networks = *
[ml2_type_vlan]
network_vlan_ranges = data:100:999
[ml2_type_vxlan]
vni_ranges = 1:10000
X
    cat >"$ETC/neutron/dhcp.ini" <<X
[DEFAULT]
host = kumoi-control
interface_driver = $interface
ovs_use_veth = true
enable_isolated_metadata = true
force_metadata = true
resync_interval = 5
[ovs]
ovsdb_connection = unix:$(ovs_folder kumoi-control)/db.sock
X
    cat >"$ETC/neutron/l3.ini" <<X
[DEFAULT]
host = kumoi-control
interface_driver = $interface
enable_metadata_proxy = false
X
    cat >"$ETC/neutron/metadata.ini" <<X
[DEFAULT]
host = kumoi-control
metadata_workers = 0
nova_metadata_host = $CONTROL_IP
nova_metadata_port = $METADATA_PORT
metadata_proxy_shared_secret = $PASSWORD
metadata_proxy_socket = $RUN/metadata.sock
X
}

# The Linux bridge agent of one host: bridges for tenants' networks, joined by vxlan over the management network.
bridge_agent_conf() { # HOST ADDRESS
    local outside=
    [ "$1-$WITH_L3" != kumoi-control-1 ] || outside="bridge_mappings = outside:br-outside"
    mkdir -p "$STATE/neutron-$1"
    cat >"$ETC/neutron/bridge-$1.ini" <<X
[DEFAULT]
host = $1
state_path = $STATE/neutron-$1
transport_url = $(transport_url "$CONTROL_IP")
[linux_bridge]
$outside
[vxlan]
enable_vxlan = true
local_ip = $2
vxlan_group = 239.1.1.1
l2_population = false
[securitygroup]
enable_security_group = true
firewall_driver = iptables
[agent]
polling_interval = 1
X
}

cinder_conf() {
    cp /etc/cinder/api-paste.ini "$ETC/cinder/"
    mkdir -p "$STATE"/cinder/{volumes,conversion} "$STATE/nfs" "$STATE/cinder/mnt"
    echo "$CONTROL_IP:/volumes" >"$ETC/cinder/nfs_shares"
    cat >"$ETC/cinder/cinder.conf" <<X
[DEFAULT]
debug = $DEBUG
my_ip = $CONTROL_IP
host = kumoi-control
state_path = $STATE/cinder
image_conversion_dir = $STATE/cinder/conversion
transport_url = $(transport_url)
auth_strategy = keystone
enabled_backends = iscsi$([ "$WITH_NFS" = 0 ] || echo ,nfs)$([ "$WITH_CEPH" = 0 ] || echo ,rbd)
default_volume_type = iscsi
api_paste_config = $ETC/cinder/api-paste.ini
rootwrap_config = /etc/cinder/rootwrap.conf
resource_query_filters_file = /etc/cinder/resource_filters.json
glance_api_servers = http://$CONTROL_IP:$GLANCE_PORT
allowed_direct_url_schemes =
periodic_fuzzy_delay = 1
report_interval = 10
quota_volumes = -1
quota_snapshots = -1
quota_gigabytes = -1
[iscsi]
volume_backend_name = iscsi
volume_driver = kumoi_cloud_iscsi.FileTargetDriver
volumes_folder = $STATE/cinder/volumes
target_ip_address = $CONTROL_IP
target_port = $ISCSI_PORT
[nfs]
volume_backend_name = nfs
volume_driver = cinder.volume.drivers.nfs.NfsDriver
nfs_shares_config = $ETC/cinder/nfs_shares
nfs_mount_point_base = $STATE/cinder/mnt
nfs_sparsed_volumes = true
nas_secure_file_operations = false
nas_secure_file_permissions = false
nfs_snapshot_support = true
nfs_qcow2_volumes = false
[rbd]
volume_backend_name = rbd
volume_driver = cinder.volume.drivers.rbd.RBDDriver
rbd_pool = volumes
rbd_user = volumes
rbd_ceph_conf = $STATE/ceph/ceph.conf
rbd_secret_uuid = 2f1a5a1e-5d0e-4b6c-9b0e-0c3f6f8a1d77
[database]
connection = $(database_url cinder)
$(authtoken cinder)
[service_user]
send_service_user_token = true
$(auth cinder)
[nova]
interface = internal
$(auth nova)
[oslo_concurrency]
lock_path = $STATE/lock
[oslo_messaging_notifications]
driver = noop
X
}

write_configuration() {
    local node
    mkdir -p "$ETC"/{rabbit,keystone,glance,placement,nova,neutron,cinder} "$STATE"/{rabbit,lock}
    rabbit_conf
    keystone_conf
    glance_conf
    placement_conf
    nova_conf
    neutron_conf
    bridge_agent_conf kumoi-control "$CONTROL_IP"
    cinder_conf
    for node in $NODES; do
        node_conf "$node"
        bridge_agent_conf "$node" "$(node_ip "$node")"
    done
    [ "$NETWORK" != ovs ] || for node in kumoi-control $NODES; do ovs_conf "$node"; done
    cat >"$STATE/openrc" <<X
export OS_AUTH_URL=http://$CONTROL_IP:$KEYSTONE_PORT/v3 OS_IDENTITY_API_VERSION=3 OS_REGION_NAME=$REGION
export OS_USERNAME=admin OS_PASSWORD=$PASSWORD OS_PROJECT_NAME=admin
export OS_USER_DOMAIN_NAME=Default OS_PROJECT_DOMAIN_NAME=Default OS_COMPUTE_API_VERSION=2.90
X
}
