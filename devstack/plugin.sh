#!/usr/bin/env bash
# DevStack plugin: kumoi as the hypervisor of a DevStack. DevStack sources this with the phase as arguments.
# Only hosts that run the compute service (n-cpu) get anything; a pure controller keeps its stock Nova.

# shellcheck source=lib/kumoi
source "${KUMOI_DIR:?set by devstack/settings}/devstack/lib/kumoi"

if is_service_enabled n-cpu; then
    case "$1/${2:-}" in
    stack/pre-install)
        echo_summary "Preparing kumoi"
        check_kumoi_host
        install_kumoi_packages
        ;;
    stack/install)
        echo_summary "Installing kumoi"
        build_kumoi
        install_kumoi
        ;;
    stack/post-config)
        echo_summary "Configuring kumoi"
        configure_kumoi
        ;;
    stack/extra)
        report_kumoi
        ;;
    unstack/)
        stop_kumoi_guests
        restore_nova_compute
        ;;
    clean/)
        restore_nova_compute
        cleanup_kumoi
        ;;
    esac
fi
# tempest may run where no compute service does.
if [[ $1 == stack && ${2:-} == test-config ]] && is_service_enabled tempest; then
    configure_kumoi_tempest
fi
