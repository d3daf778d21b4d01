#!/usr/bin/python3
"""Results of tempest, over several runs, as a page.

    report.py add FILE.subunit COMPUTE BUILD results.json       newest result of each test wins
    report.py page results.json... LIST > docs/reference/tempest.md   of several builds: the first file wins
    report.py verdict results.json                              exit status 1: a failure that nobody has explained
COMPUTE: kumoi (real guests), simulated (kumoi-compute, its simulated driver) or python (Nova's fake driver).
BUILD: the commit that was built. LIST: the names of all tests (run.sh --list); what of it has no result is listed as
`not run`."""
import collections
import datetime
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = {"success": "pass", "fail": "fail", "skip": "skip", "xfail": "pass", "uxsuccess": "fail"}
TITLES = {"kumoi": ("kumoi-compute", "kumoi-compute with real guests (kumoi-vmm, KVM)"),
          "simulated": ("kumoi-compute", "kumoi-compute with its simulated driver"),
          "python": ("Nova's own nova-compute", "Debian's nova-compute with its fake driver")}
HEAD = """# Tempest's compute tests against {title}

What Nova's own libvirt jobs (`nova-next`, `nova-multi-cell`) run of tempest's compute API: all of
`tempest.api.compute` (tempest 33.0.0, OpenStack Zed, Debian 12), here in the cloud of `devstack/cloud` with two hosts of
{nodes}. {when}

This page is made, not written: `./check tempest`, or `devstack/cloud/tempest/run.sh` and then
`devstack/cloud/tempest/report.py page`. A skip's reason is tempest's own words; behind it, where we have more to say, ours
(`devstack/cloud/tempest/reasons.txt`). `not run` is what no run of this build has reached.

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
    """A class whose set-up skips or fails has one record, `setUpClass (CLASS)`: its tests get that result by name. One
    whose tearing down fails says nothing of its tests and is listed behind them."""
    out = {}
    for name, record in found.items():
        of_class = re.match(r"(?:setUpClass|tearDownClass) \((.+)\)$", name)
        if of_class:
            if record["result"] != "pass":
                kind = "class " if name.startswith("setUp") else "after "
                out[kind + of_class.group(1)] = {**record, "reason": f"{name.split()[0]}: {record['reason']}"}
        else:
            out[name] = record
    return out


def load(store):
    with open(store) as file:
        return json.load(file)


def add(path, compute, build, store):
    record = load(store) if os.path.exists(store) else {"compute": compute, "build": build, "tests": {}}
    if (record["compute"], record["build"]) != (compute, build):
        sys.exit(f"{store} holds results of {record['compute']} {record['build']}, these are of {compute} {build}")
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")
    mine, new = record["tests"], parse(path)
    for name in new:  # an old verdict about a whole class ends when one of its tests has run
        mine.pop("class " + name.rsplit(".", 1)[0], None)
    mine.update({name: {**one, "when": now} for name, one in new.items()})
    with open(store, "w") as file:
        json.dump(record, file, indent=1, sort_keys=True)
    counts = collections.Counter(one["result"] for one in new.values())
    print(", ".join(f"{count} {result}" for result, count in sorted(counts.items())))


def explanations(compute):
    with open(os.path.join(HERE, "reasons.txt")) as file:
        lines = [line.split(None, 2) for line in file if line.strip() and not line.startswith("#")]
    return [(re.compile(pattern), reason.strip()) for who, pattern, reason in lines if who in (compute, "any")]


def explained(name, record, known):
    """What the page says about one result, and whether somebody has to look at it."""
    why = next((text for pattern, text in known if pattern.search(f"{name} {record['reason']}")), None)
    if record["result"] == "fail":
        return f"{why or 'UNEXPLAINED'}. Said: {record['reason']}", why is None
    if record["result"] == "skip" and why:
        return f"{record['reason'].rstrip('.')}. {why}", False
    return record["reason"], False


def rows(names, results, known):
    for name in names:
        record = results.get(name) or results.get("class " + name.rsplit(".", 1)[0])
        yield (name, "not run", "") if record is None else (name, record["result"], explained(name, record, known)[0])


def merged(stores):
    """All results, each with the build it is of."""
    tests = {}
    for record in map(load, reversed(stores)):
        for name, one in record["tests"].items():
            if not name.startswith("class "):  # a verdict about its whole class is an older one
                tests.pop("class " + name.rsplit(".", 1)[0], None)
        tests.update({name: {**one, "build": record["build"]} for name, one in record["tests"].items()})
    return tests


def runs(found):
    """When each build ran, and how many of the listed tests its results are."""
    sentences = []
    for build in sorted({one["build"] for one in found}, key=lambda name: max(
            one["when"] for one in found if one["build"] == name), reverse=True):
        times = sorted(one["when"] for one in found if one["build"] == build)
        sentences.append(f"Build {build}: {len(times)} tests, {times[0]} to {times[-1]} UTC.")
    return " ".join(sentences)


def page(*words):
    *stores, listed = words
    compute, tests = load(stores[0])["compute"], merged(stores)
    with open(listed) as file:
        names = sorted({line.split("[")[0].strip() for line in file if line.startswith("tempest.")})
    found = {name: tests.get(name) or tests.get("class " + name.rsplit(".", 1)[0]) for name in names}
    table = list(rows(names, tests, explanations(compute)))
    counts = collections.Counter(result for _, result, _ in table)
    title, nodes = TITLES[compute]
    text = HEAD.format(title=title, nodes=nodes, when=runs([one for one in found.values() if one]))
    text += "".join(f"| {result} | {counts[result]} |\n" for result in ("pass", "fail", "skip", "not run"))
    current = None
    for name in sorted(name[6:] for name in tests if name.startswith("after ")):
        text += f"| fail (after the tests of {name.rsplit('.', 1)[1]}) | 1 |\n"
    for name, result, reason in table:
        where, test = name.rsplit(".", 1)
        if where != current:
            current = where
            text += f"\n## {where.removeprefix('tempest.api.compute.')}\n| test | result | reason |\n|---|---|---|\n"
        text += f"| {test} | {result} | {reason.replace('|', '/')} |\n"
    sys.stdout.write(text)


def verdict(store):
    """The line that ./check counts, after what failed without a known reason."""
    record = load(store)
    known = explanations(record["compute"])
    bad = 0
    for name, one in sorted(record["tests"].items()):
        text, unexplained = explained(name, one, known)
        bad += unexplained
        if one["result"] != "pass":
            print(f"{one['result']} {name}: {text}")
    counts = collections.Counter(one["result"] for one in record["tests"].values())
    print(f"{counts['pass']} passed, {bad} failed, {counts['skip'] + counts['fail'] - bad} skipped")
    sys.exit(1 if bad or not counts["pass"] else 0)


if __name__ == "__main__":
    {"add": add, "page": page, "verdict": verdict}[sys.argv[1]](*sys.argv[2:])
