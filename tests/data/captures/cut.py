#!/usr/bin/python3
"""Cuts captures of a real cloud (one JSON object a line, xz) down to what capture_replay_test reads:

    cut.py FOLDER_OF_CAPTURES     # writes NN-name.json beside this script

Kept of each: the compute RPC requests one host received, the writes it sent to nova-conductor and the casts, as lines, and
what the records said afterwards. Dropped: contexts, tokens, reads, null and empty fields.
"""
import json
import lzma
import pathlib
import sys

SHOWN = ("vm_state", "task_state", "power_state", "host", "node")
KEPT_NULL = ("task_state", "host", "node", "launched_at", "terminated_at", "updated_at", "deleted_at")
DROPPED_ARGS = ("request_spec", "host_list", "limits", "accel_uuids", "image", "block_device_mapping",
                "bdms", "orig_sys_metadata")
READS = ("get_", "refresh", "_get")


def slim(value, top=False):
    """Without fields that say nothing."""
    if isinstance(value, list):
        return [slim(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, item in value.items():
        if key == "nova_object.changes" or item in (None, [], {}) and key not in KEPT_NULL:
            continue
        item = slim(item)
        data = item.get("nova_object.data") if isinstance(item, dict) else None
        if data in ({}, {"objects": []}) or key in ("keypairs", "ec2_ids", "services", "security_groups"):
            continue
        kept[key] = item
    return kept


def line(message):
    """One thing the host sent, or None for what only reads."""
    args, method = message["args"], message["method"]
    if method == "object_class_action_versions":
        if args["objmethod"].startswith(READS):
            return None
        words = [f"{args['objname']}.{args['objmethod']}"]
        if args["objname"] == "InstanceActionEvent":
            words.append(args["args"][1] if len(args["args"]) > 1 else args["kwargs"].get("event_name", ""))
            if args["objmethod"].startswith("event_finish") and args["kwargs"].get("exc_val"):
                words.append("failed")
        return " ".join(words)
    if method == "object_action":
        thing = args["objinst"]
        if args["objmethod"].startswith(READS) or thing["nova_object.name"] in ("ComputeNode", "Service"):
            return None
        words = [f"{thing['nova_object.name']}.{args['objmethod']}"]
        if args["objmethod"] in ("save", "create"):
            data = thing["nova_object.data"]
            for field in sorted(thing.get("nova_object.changes", [])):
                shown = field in SHOWN or (thing["nova_object.name"] == "Migration" and field == "status")
                words.append(f"{field}={json.dumps(data[field])}" if shown else field)
        expected = args.get("kwargs", {}).get("expected_task_state")
        if expected:
            expected = [expected] if isinstance(expected, str) else expected
            words.append("if " + "|".join(str(state) for state in expected).replace("None", "null"))
        return " ".join(words)
    if method in ("ping", "object_backport_versions"):
        return None
    return "cast " + method


def record(message):
    """What a host writes of itself: Service and ComputeNode."""
    args = message["args"]
    if message["method"] != "object_action" or args["objmethod"].startswith(READS):
        return None
    name = args["objinst"]["nova_object.name"]
    return f"{name}.{args['objmethod']}" if name in ("ComputeNode", "Service") else None


def kept_args(message):
    """A build needs its block devices when one of them is a volume."""
    args = message["args"]
    dropped = set(DROPPED_ARGS)
    if "\"destination_type\": \"volume\"" in json.dumps(args.get("block_device_mapping")):
        dropped.remove("block_device_mapping")
    return slim({key: value for key, value in args.items() if key not in dropped})


def cut_host(rows, host, asked):
    """One host's part: what it was asked, and what it said."""
    senders = {f"nova-compute-{host}"} | ({"amqpproxy"} if host == "cn1" else set())
    received = [{"method": row["method"], "version": row["message"]["version"], "args": kept_args(row["message"])}
                for row in asked if row["routing_keys"][0] == f"compute.{host}"]
    sent = [row["message"] for row in rows if row["kind"] == "rpc" and row["sender"] in senders
            and row["type"] in ("call", "cast", "fanout-cast") and not row["routing_keys"][0].startswith("compute")
            and row["exchange"] != ""]
    part = {"host": host, "servers": rows[0]["instances"], "received": received,
            "sent": [text for text in (line(message) for message in sent) if text]}
    passed_on = [row["method"] for row in rows if row["kind"] == "rpc" and row["sender"] in senders
                 and row["type"] == "cast" and row["routing_keys"][0].startswith("compute.")]
    if passed_on:
        part["passes_on"] = passed_on
    if any(message["method"] == "ping" for message in sent):
        part["starts"] = True
        part["records"] = sorted({text for text in (record(message) for message in sent) if text})
    return part


def cut(path, folder, evacuated):
    rows = [json.loads(text) for text in lzma.open(path)]
    asked = [row for row in rows if row["kind"] == "rpc" and row["type"] in ("call", "cast")
             and row["routing_keys"][0].startswith("compute.")]
    work = [row for row in asked if row["method"] != "external_instance_event"] or asked
    methods = {row["method"] for row in work}
    main_work = [row for row in work if row["method"] != "set_host_enabled"] or work
    hosts = [main_work[0]["routing_keys"][0].split(".", 1)[1]] if main_work else ["cn1"]
    if methods & {"prep_resize", "revert_resize", "live_migration"}:
        hosts = sorted({row["routing_keys"][0].split(".", 1)[1] for row in main_work})
    before, after = {}, {}
    for server, changes in (rows[-1].get("changes") or {}).items():
        values = {field: both for field, both in changes.get("instances", {}).items()
                  if field in SHOWN + ("deleted", "locked", "display_name")}
        before[server] = {field: both[0] for field, both in values.items()}
        after[server] = {field: both[1] for field, both in values.items() if field in SHOWN + ("deleted",)}
    name = path.name.split(".")[0]
    for row in work:
        args = row["message"]["args"]
        if row["method"] == "rebuild_instance" and args.get("recreate"):
            evacuated.append(slim({"instance": args["instance"], "migration": args["migration"]}))
    last = main_work[-1]["routing_keys"][0].split(".", 1)[1] if main_work else hosts[0]
    for host in hosts:
        whole = {"capture": name, **cut_host(rows, host, work), "after": after if host == last or len(hosts) == 1 else {}}
        if not work:
            whole["before"] = before
        if "after-evacuate" in name:
            whole["evacuated"] = evacuated
        ending = f".{host}" if len(hosts) > 1 else ""
        (folder / f"{name}{ending}.json").write_text(json.dumps(whole, indent=1) + "\n")


def main():
    evacuated = []
    for path in sorted(pathlib.Path(sys.argv[1]).glob("[0-9]*.jsonl.xz")):
        cut(path, pathlib.Path(__file__).parent, evacuated)


if __name__ == "__main__":
    main()
