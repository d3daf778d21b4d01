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


def cut(path, folder):
    rows = [json.loads(text) for text in lzma.open(path)]
    asked = [row for row in rows if row["kind"] == "rpc" and row["type"] in ("call", "cast")
             and row["routing_keys"][0].startswith("compute.")]
    work = [row for row in asked if row["method"] not in ("external_instance_event", "set_host_enabled")] or asked
    if not work:
        return
    host = work[0]["routing_keys"][0].split(".", 1)[1]
    senders = {f"nova-compute-{host}"} | ({"amqpproxy"} if host == "cn1" else set())
    servers = rows[0]["instances"]
    received = [{"method": row["method"], "version": row["message"]["version"],
                 "args": slim({key: value for key, value in row["message"]["args"].items() if key not in DROPPED_ARGS})}
                for row in asked if row["routing_keys"][0] == f"compute.{host}"
                and (row["method"] != "external_instance_event" or work is asked)]
    sent = [row["message"] for row in rows if row["kind"] == "rpc" and row["sender"] in senders
            and row["type"] in ("call", "cast", "fanout-cast") and not row["routing_keys"][0].startswith("compute")
            and row["exchange"] != ""]
    lines = [text for text in (line(message) for message in sent) if text]
    after = {}
    for server, changes in (rows[-1].get("changes") or {}).items():
        after[server] = {field: values[1] for field, values in changes.get("instances", {}).items()
                         if field in SHOWN + ("deleted",)}
    name = path.name.split(".")[0]
    text = json.dumps({"capture": name, "host": host, "servers": servers, "received": received, "sent": lines,
                       "after": after}, indent=1)
    (folder / f"{name}.json").write_text(text + "\n")


def main():
    for path in sorted(pathlib.Path(sys.argv[1]).glob("[0-9]*.jsonl.xz")):
        cut(path, pathlib.Path(__file__).parent)


if __name__ == "__main__":
    main()
