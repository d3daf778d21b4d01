#!/usr/bin/python3
"""Writes tempest.conf for the running test cloud: conf.py STATE ADDRESS PASSWORD COMPUTE(python|kumoi) > tempest.conf

What a compute service cannot do is switched off in [compute-feature-enabled], so that tempest itself skips the tests
and says why. FEATURES is the list; keep it short."""
import configparser
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import rest  # noqa: E402

# What DevStack's libvirt job has on. The second word: what has it too.
FEATURES = {
    "resize": "python kumoi", "cold_migration": "python kumoi", "pause": "python kumoi", "suspend": "python kumoi",
    "shelve": "python kumoi", "snapshot": "python kumoi", "rescue": "python kumoi", "console_output": "python kumoi",
    "vnc_console": "python kumoi", "interface_attach": "python kumoi", "change_password": "python",
    "disk_config": "python kumoi", "config_drive": "python kumoi", "swap_volume": "python kumoi",
    "metadata_service": "python kumoi", "volume_multiattach": "python kumoi", "attach_encrypted_volume": "",
    "live_migration": "python kumoi", "live_migrate_back_and_forth": "python kumoi",
    "volume_backed_live_migration": "python kumoi", "block_migration_for_live_migration": "python kumoi",
    "block_migrate_cinder_iscsi": "kumoi", "shelve_migrate": "", "spice_console": "", "serial_console": "kumoi",
    "stable_rescue": "kumoi", "ide_bus": "python", "hostname_fqdn_sanitization": "python kumoi", "unified_limits": "",
}
FILTERS = ("ComputeFilter,ComputeCapabilitiesFilter,ImagePropertiesFilter,ServerGroupAntiAffinityFilter,"
           "ServerGroupAffinityFilter,SameHostFilter,DifferentHostFilter")


def sections(state, address, password, compute):
    with open(os.path.join(state, "ids.json")) as file:
        ids = json.load(file)
    cloud = rest.Cloud(f"http://{address}:5000/v3", "admin", password, "admin")
    services = {"nova": "true", "neutron": "true", "glance": "true", "swift": "false",
                "cinder": str("volumev3" in cloud.endpoints and os.path.exists(f"{state}/run/cinder-api.pid")).lower()}
    extensions = sorted(one["alias"] for one in cloud.get("network", "/extensions")["extensions"])
    slow = float(os.environ.get("KUMOI_TEST_PATIENCE", "1"))
    validates = "image_ssh" in ids and os.environ.get("KUMOI_TEMPEST_VALIDATION") == "1"
    images = ids.get("image_micro", ids["image"]), ids.get("image_micro_alt", ids["image_alt"])
    if validates:
        images = ids["image_ssh"], ids["image_alt"]
    waits = {"build_interval": "1", "build_timeout": str(int(240 * slow))}
    return {
        "DEFAULT": {"log_file": f"{state}/tempest/tempest.log"},
        "oslo_concurrency": {"lock_path": f"{state}/lock/tempest"},
        "auth": {"use_dynamic_credentials": "true", "create_isolated_networks": "true", "admin_username": "admin",
                 "admin_password": password, "admin_project_name": "admin", "admin_domain_name": "Default",
                 "tempest_roles": "member"},
        "identity": {"auth_version": "v3", "uri_v3": f"http://{address}:5000/v3", "region": "RegionOne",
                     "v3_endpoint_type": "public"},
        "identity-feature-enabled": {"api_v2": "false", "api_v3": "true"},
        "compute": {"region": "RegionOne", "flavor_ref": ids["m1.nano"], "flavor_ref_alt": ids["m1.micro"],
                    "image_ref": images[0], "image_ref_alt": images[1], "min_compute_nodes": "2",
                    "min_microversion": "2.1", "max_microversion": "latest", "fixed_network_name": "private",
                    "ready_wait": "0", **waits},
        "compute-feature-enabled": {
            "scheduler_enabled_filters": FILTERS,
            **{name: str(compute in who.split()).lower() for name, who in FEATURES.items()}},
        # Needs an SSH server in the guest, and Neutron's L3 agent for the way there (KUMOI_CLOUD_L3=1). Only where it is
        # asked for: waiting for the guest to boot in nearly every test is an hour where ring 0 is emulated.
        "validation": {"run_validation": str(validates).lower(), "image_ssh_user": "root", "connect_method": "floating",
                       "auth_method": "keypair", "connect_timeout": str(int(120 * slow)), "ssh_timeout": str(int(600 * slow)),
                       "ping_timeout": str(int(300 * slow))},
        "network": {"public_network_id": ids["public"], "floating_network_name": "public",
                    "project_network_cidr": "10.200.0.0/16"},
        "network-feature-enabled": {"api_extensions": ",".join(extensions), "ipv6": "false", "floating_ips": "true"},
        "service_available": services,
        "volume": {"catalog_type": "volumev3", "volume_type": "iscsi", **waits},
        "volume-feature-enabled": {"snapshot": "true", "backup": "false"},
        "image": {"region": "RegionOne", "build_interval": "1"},
    }


def main():
    text = configparser.ConfigParser(default_section="none", interpolation=None)
    text.read_dict(sections(*sys.argv[1:]))
    text.write(sys.stdout)


main()
