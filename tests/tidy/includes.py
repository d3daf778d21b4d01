#!/usr/bin/env python3
"""Refuses an #include that crosses a border of ARCHITECTURE.md."""
import re
import sys

import tree

# Folder -> path prefixes it may include. The longest matching folder decides.
MAY_INCLUDE = {
    "base": ["base/"],
    "scheduler": ["base/", "scheduler/"],
    "hypervisor": ["base/", "hypervisor/"],
    "hypervisor/main.cc": ["base/", "hypervisor/", "migration/"],
    "hypervisor/control/control_client": ["base/", "hypervisor/control/protocol", "hypervisor/control/control_client"],
    "hypervisor/control/protocol": ["base/", "hypervisor/control/protocol"],
    "migration": ["base/", "hypervisor/", "migration/"],
    "migration/policy": ["base/", "migration/policy/"],
    "migration/handover": ["base/", "migration/handover/"],
    "migration/link": ["base/", "migration/link/"],
    "migration/link/relay": ["base/", "migration/link/", "hypervisor/sandbox/seccomp_filter",
                             "hypervisor/sandbox/thread_class.h"],
    "migration/transfer": ["base/", "migration/link/", "migration/transfer/"],
    "compute": ["base/", "scheduler/", "migration/policy/", "migration/handover/", "migration/link/",
                "migration/transfer/", "compute/",
                "hypervisor/control/protocol", "hypervisor/control/control_client"],
    "api": ["base/", "compute/", "api/"],
    "api/http": ["base/", "api/http/"],
    "api/amqp": ["base/", "api/amqp/"],
    "api/cli": ["base/", "api/http/", "api/cli/",
                "hypervisor/control/protocol", "hypervisor/control/control_client"],
    "api/main.cc": [""],
    "sim": ["base/", "scheduler/", "migration/policy/", "sim/"],
    "tests": [""],
}
# System headers that only these files may use: the rest of the tree goes through their interfaces.
ONLY_HERE = [
    (re.compile(r"^pistache/"), ("api/http/",)),
    (re.compile(r"^boost/beast"), ("api/http/",)),
    (re.compile(r"^(rabbitmq-c/|amqp)"), ("api/amqp/rabbit_",)),
    (re.compile(r"^rapidjson/"), ("base/json",)),
    (re.compile(r"^spdlog/"), ("base/log",)),
    (re.compile(r"^curl/"), ("api/http/http_client", "compute/clients/http_client")),
    (re.compile(r"^SQLiteCpp/|^sqlite3\.h"), ("compute/conductor/database",)),
    (re.compile(r"^linux/kvm\.h"), ("hypervisor/", "tests/")),
    (re.compile(r"^(sys/socket\.h|thread|mutex|chrono)$"), ("-scheduler/",)),
]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def allowed_prefixes(name):
    match = max((folder for folder in MAY_INCLUDE if name == folder or name.startswith(folder + "/")
                 or (folder.count("/") and name.startswith(folder))), key=len)
    return match, MAY_INCLUDE[match]


def include_places(name):
    """Where an include may start: the root; tests also know their own folder."""
    return ["", name.rpartition("/")[0]] if name.startswith("tests/") else [""]


def system_findings(name, header):
    for pattern, places in ONLY_HERE:
        if not pattern.search(header):
            continue
        banned = [place[1:] for place in places if place.startswith("-")]
        if banned and name.startswith(tuple(banned)):
            yield f"{name}: <{header}> may not be used in {banned[0]}"
        if not banned and not name.startswith(places) and not name.startswith("tests/"):
            yield f"{name}: <{header}> may only be used in {', '.join(places)}"


def check(root=tree.ROOT):
    findings = []
    for name in tree.files(root, ".h", ".cc"):
        folder, prefixes = allowed_prefixes(name)
        for number, line in enumerate((root / name).read_text().splitlines(), 1):
            found = INCLUDE.match(line)
            if not found:
                continue
            if found.group(1) == "<":
                findings += system_findings(name, found.group(2))
            elif not found.group(2).startswith(tuple(prefixes)):
                findings.append(f"{name}:{number}: {folder} may not include {found.group(2)}")
            elif not any((root / place / found.group(2)).is_file() for place in include_places(name)) \
                    and found.group(2) != "base/version.h":
                findings.append(f"{name}:{number}: {found.group(2)} is not a path from the root")
    return findings


if __name__ == "__main__":
    tree.finish("include borders", check())
