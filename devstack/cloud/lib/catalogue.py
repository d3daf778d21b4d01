#!/usr/bin/python3
"""Users, roles and the catalogue in a Keystone that has just been bootstrapped. May run again.
catalogue.py ADDRESS PASSWORD REGION"""
import sys

import rest

ADDRESS, PASSWORD, REGION = sys.argv[1:]
SERVICES = [("nova", "compute", ":8774/v2.1"), ("placement", "placement", ":8778"), ("glance", "image", ":9292"),
            ("neutron", "network", ":9696"), ("cinder", "volumev3", ":8776/v3/%(project_id)s")]


def main():
    cloud = rest.Cloud(f"http://{ADDRESS}:5000/v3", "admin", PASSWORD, "admin")
    service = cloud.ensure("identity", "projects", "service", {"domain_id": "default"})["id"]
    demo = cloud.ensure("identity", "projects", "demo", {"domain_id": "default"})["id"]
    roles = {name: cloud.ensure("identity", "roles", name, {})["id"] for name in ("admin", "service", "member", "reader")}
    users = [(name, service, ("admin", "service")) for name, _, _ in SERVICES] + [("demo", demo, ("member", "reader"))]
    for name, project, granted in users:
        user = cloud.ensure("identity", "users", name, {"domain_id": "default", "password": PASSWORD})["id"]
        for role in granted:
            cloud.put("identity", f"/projects/{project}/users/{user}/roles/{roles[role]}")
    there = {(one["service_id"], one["interface"]) for one in cloud.get("identity", "/endpoints")["endpoints"]}
    for name, kind, rest_of_url in SERVICES:
        number = cloud.ensure("identity", "services", name, {"type": kind})["id"]
        for interface in ("public", "internal", "admin"):
            if (number, interface) not in there:
                cloud.post("identity", "/endpoints", {"endpoint": {
                    "service_id": number, "interface": interface, "region_id": REGION,
                    "url": f"http://{ADDRESS}{rest_of_url}"}})


main()
