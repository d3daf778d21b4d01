#!/usr/bin/python3
"""Results of tempest, over several runs, as a page.

    report.py add FILE.subunit COMPUTE results.json       newest result of each test wins
    report.py page results.json LIST [COMPUTE] > docs/reference/tempest.md
LIST: the names of all tests (run.sh --list); what of it has no result is listed as `not run`."""
import collections
import datetime
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = {"success": "pass", "fail": "fail", "skip": "skip", "xfail": "pass", "uxsuccess": "fail"}
HEAD = """# Tempest's compute tests against {compute}

What Nova's own libvirt jobs (`nova-next`, `nova-multi-cell`) run of tempest's compute API: all of
`tempest.api.compute` (tempest 33.0.0, OpenStack Zed, Debian 12), here in the cloud of `devstack/cloud` with two hosts.
This page is made, not written: `devstack/cloud/tempest/run.sh`, then
`devstack/cloud/tempest/report.py page`. Skips are tempest's own, with its reason; `not run` is what no run has reached.

| result | tests |
|---|---|
"""


def parse(path):
    """{test: {result, reason, seconds}} of one subunit stream."""
    import subunit
    import testtools
    found = {}

    def keep(test):
        name, result = test["id"].split("[")[0], NAMES.get(test["status"])
        if result is None:
            return
        start, end = test["timestamps"]
        details = {key: value.as_text() for key, value in test["details"].items() if value.content_type.type == "text"}
        reason = details.get("reason", "") if result == "skip" else last_line(details) if result == "fail" else ""
        found[name] = {"result": result, "reason": " ".join(reason.split())[:500],
                       "seconds": round((end - start).total_seconds(), 1) if start and end else 0}
    result = testtools.StreamToDict(keep)
    result.startTestRun()
    with open(path, "rb") as stream:
        subunit.ByteStreamToStreamResult(stream, non_subunit_name="stdout").run(result)
    result.stopTestRun()
    return spread(found)


def last_line(details):
    text = details.get("traceback", "") or next((value for key, value in details.items() if "traceback" in key), "")
    lines = [line for line in text.splitlines() if re.match(r"\w[\w.]*(Error|Exception|Mismatch|[A-Z]\w+): ", line)
             or line.startswith(("Details: ", "<class "))]
    return " ".join(lines[-3:]) or (text.splitlines() or ["no traceback"])[-1]


def spread(found):
    """A class whose set-up skips or fails has one record, `setUpClass (CLASS)`: its tests get that result by name."""
    out = {}
    for name, record in found.items():
        of_class = re.match(r"(?:setUpClass|tearDownClass) \((.+)\)$", name)
        if of_class:
            if record["result"] != "pass":
                out["class " + of_class.group(1)] = {**record, "reason": f"{name.split()[0]}: {record['reason']}"}
        else:
            out[name] = record
    return out


def add(path, compute, store):
    results = {}
    if os.path.exists(store):
        with open(store) as file:
            results = json.load(file)
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")
    mine = results.setdefault(compute, {})
    new = parse(path)
    for name in new:  # an old verdict about a whole class ends when one of its tests has run
        mine.pop("class " + name.rsplit(".", 1)[0], None)
    mine.update({name: {**record, "when": now} for name, record in new.items()})
    with open(store, "w") as file:
        json.dump(results, file, indent=1, sort_keys=True)
    counts = collections.Counter(record["result"] for record in new.values())
    print(", ".join(f"{count} {result}" for result, count in sorted(counts.items())))


def explanations(compute):
    with open(os.path.join(HERE, "reasons.txt")) as file:
        lines = [line.split(None, 2) for line in file if line.strip() and not line.startswith("#")]
    return [(re.compile(pattern), reason.strip()) for who, pattern, reason in lines if who in (compute, "any")]


def rows(names, results, known):
    for name in names:
        record = results.get(name) or results.get("class " + name.rsplit(".", 1)[0])
        if record is None:
            yield name, "not run", ""
            continue
        reason = record["reason"]
        if record["result"] == "fail":
            why = next((text for pattern, text in known if pattern.search(f"{name} {reason}")), "UNEXPLAINED")
            reason = f"{why}. Said: {reason}"
        yield name, record["result"], reason


def page(store, listed, compute="kumoi"):
    with open(store) as file:
        results = json.load(file).get(compute, {})
    with open(listed) as file:
        names = sorted({line.split("[")[0].strip() for line in file if line.startswith("tempest.")})
    table = list(rows(names, results, explanations(compute)))
    counts = collections.Counter(result for _, result, _ in table)
    title = {"kumoi": "kumoi-compute", "python": "Nova's own nova-compute with its fake driver"}[compute]
    text = HEAD.format(compute=title)
    text += "".join(f"| {result} | {counts[result]} |\n" for result in ("pass", "fail", "skip", "not run"))
    current = None
    for name, result, reason in table:
        where, test = name.rsplit(".", 1)
        if where != current:
            current = where
            text += f"\n## {where.removeprefix('tempest.api.compute.')}\n| test | result | reason |\n|---|---|---|\n"
        text += f"| {test} | {result} | {reason.replace('|', '/')} |\n"
    sys.stdout.write(text)


if __name__ == "__main__":
    {"add": add, "page": page}[sys.argv[1]](*sys.argv[2:])
