#!/usr/bin/env bash
# Brings up OpenStack Zed on this machine from Debian's packages, without systemd: the control plane in a network
# namespace, and compute nodes in namespaces of their own. What can be chosen: settings.sh. Running it again starts
# what does not run. Then: source $STATE/openrc; openstack compute service list
set -euo pipefail
# shellcheck source=settings.sh
source "$(dirname "$0")/settings.sh"
for part in process network ovs config services database; do
    # shellcheck source=/dev/null
    source "$CLOUD_ROOT/lib/$part.sh"
done
[ "$(id -u)" = 0 ] || die "this makes network namespaces: run it as root"
[ ${#STATE} -le 60 ] || die "the path $STATE is too long for the sockets below it"
"$CLOUD_ROOT/install.sh"

mkdir -p "$STATE" "$ETC" "$LOG/rabbit" "$RUN"
chmod 700 "$ETC" "$RUN" # passwords, and the data base's socket
chmod 711 "$STATE"       # dnsmasq and guests run as users of their own
started=$SECONDS
network_up
[ "$WITH_L3" = 0 ] || public_up
[ "$NETWORK" != ovs ] || data_network_up
write_configuration
phase "namespaces and configuration"
start_rabbit
databases_up
# Its port opens when it is ready; rabbitmqctl would start a second Erlang machine to find that out.
wait_for RabbitMQ 300 listens $RABBIT_PORT
phase "RabbitMQ"
start_placement
start_glance
start_nova
start_neutron
[ "$WITH_CINDER" = 0 ] || start_cinder
[ "$WITH_PROXY" = 0 ] || start_proxy
for port in $PLACEMENT_PORT $GLANCE_PORT $NOVA_PORT; do wait_for "port $port" 300 answers "$port"; done
[ "$WITH_CINDER" = 0 ] || wait_for Cinder 300 answers $CINDER_PORT
phase "control plane"
for node in $NODES; do start_compute "$node"; done
if [ "$COMPUTE-$KUMOI_DRIVER" = kumoi-kumoi ]; then # what real guests boot
    guests=$CLOUD_ROOT/../../tests/guests/linux
    GUEST_KERNEL=$("$guests/build.sh")/vmlinux GUEST_ROOT=$("$guests/make-root.sh")/kumoi-tiny.raw
    [ "$WITH_L3" = 0 ] || "$CLOUD_ROOT/tempest/guest.sh" "$GUEST_ROOT" "$STATE/ssh.raw"
    export GUEST_KERNEL GUEST_ROOT GUEST_SSH=$STATE/ssh.raw GUEST_MICRO=$KUMOI_BUILD/tests/guests/micro/server.elf
fi
agents=neutron-linuxbridge-agent
[ "$NETWORK" != ovs ] || agents=neutron-openvswitch-agent
[ "$WITH_AGENTS" = 1 ] || agents=0
words=("$STATE" "$CONTROL_IP" "$PASSWORD" "$agents")
[ "$WITH_CINDER" = 0 ] || words+=(--volumes)
[ "$WITH_CEPH" = 0 ] || words+=(--rbd)
# shellcheck disable=SC2206  # one word a node
[ "$COMPUTE" = none ] || words+=($NODES)
/usr/bin/python3 "$CLOUD_ROOT/lib/resources.py" "${words[@]}"
phase "hosts registered, flavors, images, networks"
say "the cloud is up after $((SECONDS - started)) s; source $STATE/openrc"
