#!/usr/bin/python3
"""Flavors, images, networks and volume types of the test cloud, and the wait for its hosts. May run again.
resources.py STATE ADDRESS PASSWORD AGENT(0: none runs) [--volumes] [HOST...]; the ids end up in STATE/ids.json."""
import json
import os
import sys

import rest

PATIENCE = float(os.environ.get("KUMOI_TEST_PATIENCE", "1"))


def flavors(cloud):
    sizes = [("m1.nano", "42", 1, 128, 1), ("m1.micro", "84", 2, 192, 1), ("m1.small", "1", 1, 512, 2)]
    return {name: cloud.ensure("compute", "flavors", name, {"id": number, "vcpus": cpus, "ram": ram, "disk": disk})["id"]
            for name, number, cpus, ram, disk in sizes}


def image(cloud, name, data, **properties):
    record = cloud.ensure("image", "images", name, {"disk_format": "raw", "container_format": "bare",
                                                    "visibility": "public", **properties})
    if record["status"] == "queued":
        cloud.request("PUT", "image", f"/images/{record['id']}/file", data,
                      {"Content-Type": "application/octet-stream"}, timeout=600)
    return record["id"]


def images(cloud, kernel_file, root_file, ssh_file):
    """The test guest, a kernel and a root disk, when their files are named; else an empty disk, which serves where
    no guest runs."""
    if not kernel_file:
        return {"image": image(cloud, "tiny", bytes(1 << 20)), "image_alt": image(cloud, "tiny-alt", bytes(1 << 20))}
    with open(kernel_file, "rb") as file:
        kernel = image(cloud, "tiny-kernel", file.read(), disk_format="aki", container_format="aki")
    boot = {"kernel_id": kernel, "os_command_line": "console=ttyS0 root=/dev/vda rw earlyprintk=ttyS0 loglevel=6",
            "hw_video_model": "bochs"}  # a display, for the tests of VNC consoles
    with open(root_file, "rb") as file:
        data = file.read()
    ids = {"image": image(cloud, "tiny", data, **boot), "image_alt": image(cloud, "tiny-alt", data, **boot), "kernel": kernel}
    # What tempest's servers run: a real guest that costs no processor time, unlike Linux where ring 0 is emulated.
    micro = os.environ.get("GUEST_MICRO", "")
    if os.path.exists(micro):
        with open(micro, "rb") as file:
            of_micro = image(cloud, "micro-kernel", file.read(), disk_format="aki", container_format="aki")
        for name in ("micro", "micro_alt"):
            ids["image_" + name] = image(cloud, name, bytes(1 << 20), kernel_id=of_micro, hw_video_model="bochs")
    if os.path.exists(ssh_file):
        with open(ssh_file, "rb") as file:
            ids["image_ssh"] = image(cloud, "tiny-ssh", file.read(), **boot)
    return ids


def network(cloud, name, cidr, **options):
    record = cloud.ensure("network", "networks", name, options)
    cloud.ensure("network", "subnets", name, {"network_id": record["id"], "ip_version": 4, "cidr": cidr,
                                              "enable_dhcp": not options.get("router:external")})
    return record["id"]


def networks(cloud):
    private = network(cloud, "private", "10.77.0.0/20")
    public = network(cloud, "public", "172.24.4.0/24", **{
        "router:external": True, "is_default": True, "provider:network_type": "flat", "provider:physical_network": "outside"})
    # What a server of `--nic auto` gets its own network from.
    cloud.ensure("network", "subnetpools", "default", {"prefixes": ["10.80.0.0/20"], "default_prefixlen": 26,
                                                       "is_default": True, "shared": True})
    router = cloud.ensure("network", "routers", "router", {"external_gateway_info": {"network_id": public}})["id"]
    subnet = cloud.get("network", "/subnets?name=private")["subnets"][0]["id"]
    if not cloud.get("network", f"/ports?device_id={router}&device_owner=network:router_interface")["ports"]:
        cloud.put("network", f"/routers/{router}/add_router_interface", {"subnet_id": subnet})
    return {"private": private, "public": public}


def wait_for_hosts(cloud, hosts):
    for host in hosts:
        def is_mapped(name=host):
            up = [one for one in cloud.get("compute", "/os-services?binary=nova-compute")["services"]
                  if one["host"] == name and one["state"] == "up"]
            # Not /detail: that asks each host for its uptime, and waits for one that is just starting.
            return up and any(one["hypervisor_hostname"] == name
                              for one in cloud.get("compute", "/os-hypervisors")["hypervisors"])
        rest.wait_until(is_mapped, 300 * PATIENCE, f"host {host} is up and mapped to the cell", 0.5)


def wait_for_agents(cloud, agent, hosts):
    def alive():
        kinds = {(one["binary"], one["host"]) for one in cloud.get("network", "/agents")["agents"] if one["alive"]}
        return {(agent, host) for host in hosts} | {
            ("neutron-dhcp-agent", "kumoi-control")} <= kinds
    rest.wait_until(alive, 300 * PATIENCE, "Neutron's agents are alive", 0.5)


def main():
    state, address, password, agent, *rest_of_words = sys.argv[1:]
    volumes = "--volumes" in rest_of_words
    hosts = [word for word in rest_of_words if not word.startswith("--")]
    cloud = rest.Cloud(f"http://{address}:5000/v3", "admin", password, "admin")
    ids = {**flavors(cloud), **images(cloud, os.environ.get("GUEST_KERNEL"), os.environ.get("GUEST_ROOT"),
                                       os.environ.get("GUEST_SSH", "")), **networks(cloud)}
    if volumes:
        for backend in ("iscsi", "nfs", *(["rbd"] if "--rbd" in rest_of_words else [])):
            cloud.ensure("volumev3", "volume_types", backend, {"extra_specs": {"volume_backend_name": backend}}, path="/types")
    if agent != "0":
        wait_for_agents(cloud, agent, ["kumoi-control", *hosts])
    wait_for_hosts(cloud, hosts)
    with open(os.path.join(state, "ids.json"), "w") as file:
        json.dump(ids, file, indent=1)


main()
