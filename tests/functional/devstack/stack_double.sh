#!/usr/bin/env bash
# A DevStack of a few lines: the functions and the order of phases that a plugin meets in stack.sh, unstack.sh and
# clean.sh, on files below $FAKE. Commands that would change the machine are written to $FAKE/calls instead.
#   stack_double.sh stack|unstack|clean
# shellcheck disable=SC2034  # read by the plugin
set -eu -o pipefail
DEST=$FAKE/dest DATA_DIR=$FAKE/data
NOVA_CONF_DIR=$FAKE/etc/nova NOVA_CONF=$FAKE/etc/nova/nova.conf NOVA_CPU_CONF=$FAKE/etc/nova/nova-cpu.conf
NOVA_BIN_DIR=$FAKE/venv/bin NOVA_STATE_PATH=$DATA_DIR/nova NOVA_INSTANCES_PATH=$DATA_DIR/nova/instances
TEMPEST_CONFIG=$FAKE/etc/tempest.conf
PLUGIN=$KUMOI_DIR/devstack

called() { printf '%s\n' "$*" >>"$FAKE/calls"; }
is_service_enabled() { [[ " $ENABLED_SERVICES " == *" $1 "* ]]; }
define_plugin() { called define_plugin "$@"; }
install_package() { called install_package "$@"; }
echo_summary() { called summary "$*"; }
die() {
    shift
    echo "ERROR: $*" >&2
    exit 3
}
sudo() { # of what runs as root only what stays below the fake tree is done
    [[ "$*" == *"$FAKE"* || $1 == kill ]] || die 0 "sudo outside of the test: $*"
    called sudo "$1"
    "$@"
}
openstack() {
    called openstack "$@"
    [[ "$*" != *"hypervisor list"* ]] || cat "$FAKE/hypervisors"
}
cmake() { called cmake "$@"; }
nproc() { echo 3; }
iniset() { called "iniset $(basename "$1")" "${@:2}"; /usr/bin/python3 -B "$INI" set "$@"; }
inicomment() { called "inicomment $(basename "$1")" "${@:2}"; /usr/bin/python3 -B "$INI" comment "$@"; }
run_process() { # what DevStack gives systemd as ExecStart
    called run_process "$1"
    bash -c "$2"
}

lib_nova_install() {
    called lib/nova install
    printf '#!/bin/sh\n# the stock one\n' >"$NOVA_BIN_DIR/nova-compute"
}
lib_nova_create_conf() {
    called lib/nova create_conf
    printf '[DEFAULT]\ncompute_driver = libvirt.LibvirtDriver\nrootwrap_config = /etc/nova/rootwrap.conf\n' >"$NOVA_CONF"
    printf 'transport_url = rabbit://stackrabbit:secret@127.0.0.1:5672/\n[database]\nconnection = mysql://\n' >>"$NOVA_CONF"
}
lib_nova_start_compute() { # copies, drops what a compute host may not have, starts
    called lib/nova start
    sed '/^\[database\]/,$d' "$NOVA_CONF" >"$NOVA_CPU_CONF"
    sed -n '/^\[kumoi\]/,$p' "$NOVA_CONF" >>"$NOVA_CPU_CONF"
    run_process n-cpu "$NOVA_BIN_DIR/nova-compute --config-file $NOVA_CPU_CONF"
}
phase() {
    called "phase $*"
    # shellcheck source=/dev/null
    source "$PLUGIN/plugin.sh" "$@"
}

mkdir -p "$DEST" "$DATA_DIR" "$NOVA_CONF_DIR" "$NOVA_BIN_DIR"
# shellcheck source=/dev/null
source "$PLUGIN/override-defaults"
called "VIRT_DRIVER $VIRT_DRIVER"
# shellcheck source=/dev/null
source "$PLUGIN/settings"
case $1 in
stack)
    phase stack pre-install
    is_service_enabled n-cpu && lib_nova_install
    phase stack install
    lib_nova_create_conf
    phase stack post-config
    is_service_enabled n-cpu && lib_nova_start_compute
    phase stack extra
    : >"$TEMPEST_CONFIG"
    phase stack test-config
    ;;
unstack) phase unstack ;;
clean)
    phase unstack # clean.sh runs unstack.sh first
    phase clean
    ;;
esac
