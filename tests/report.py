#!/usr/bin/env python3
"""Adds up what the test stages of ./check wrote and prints the closing line.

usage: report.py RESULT...   where RESULT is a JUnit file of ctest (.xml) or a line file (.txt) with
lines "passed|failed|skipped NAME [reason]". Every GoogleTest case and every Python unittest case counts
as one; a ctest entry that is neither counts as one itself. Exit status 1 when anything failed, or when
nothing ran.
"""
import re
import sys
import xml.etree.ElementTree as ElementTree

GTEST_TOTAL = re.compile(r"\[==========\] (\d+) tests? from \d+ test suites? ran")
GTEST_PASSED = re.compile(r"\[  PASSED  \] (\d+) tests?")
GTEST_SKIPPED = re.compile(r"\[  SKIPPED \] (\d+) tests?, listed below")
GTEST_FAILED = re.compile(r"\[  FAILED  \] (\d+) tests?, listed below")
UNITTEST = re.compile(r"^Ran (\d+) tests? in", re.M)
UNITTEST_END = re.compile(r"^(OK|FAILED)(?: \((.*)\))?$", re.M)
PLAIN = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.M)
SKIP_REASON = re.compile(r"(?:Skipped|skipped|SKIP)[: ]+(.{5,160})")


def number(pattern, text):
    found = pattern.search(text)
    return int(found.group(1)) if found else 0


def count_output(output, status):
    """(passed, failed, skipped) of one ctest entry."""
    if GTEST_TOTAL.search(output):
        counts = [number(GTEST_PASSED, output), number(GTEST_FAILED, output), number(GTEST_SKIPPED, output)]
    elif UNITTEST.search(output):
        total = sum(int(value) for value in UNITTEST.findall(output))
        details = " ".join(match[1] for match in UNITTEST_END.findall(output))
        skipped = sum(int(value) for value in re.findall(r"skipped=(\d+)", details))
        failed = sum(int(value) for value in re.findall(r"(?:failures|errors)=(\d+)", details))
        counts = [total - skipped - failed, failed, skipped]
    elif PLAIN.search(output):
        counts = [int(value or 0) for value in PLAIN.search(output).groups()]
    else:
        counts = [0, 0, 0]
        counts[{"run": 0, "fail": 1}.get(status, 2)] = 1
    if status == "fail" and counts[1] == 0:
        counts[1] = 1  # it crashed, or failed after its last case
    return counts


def read_junit(path):
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        status = case.get("status")
        output = case.findtext("system-out") or ""
        yield case.get("name"), count_output(output, status), output


def read_lines(path):
    with open(path) as lines:
        for line in lines:
            verdict, name, *reason = line.rstrip("\n").split(" ", 2)
            counts = [0, 0, 0]
            counts[("passed", "failed", "skipped").index(verdict)] = 1
            yield name, counts, " ".join(reason)


def main():
    totals = [0, 0, 0]
    skips = []
    for path in sys.argv[1:]:
        for name, counts, output in (read_junit if path.endswith(".xml") else read_lines)(path):
            totals = [total + one for total, one in zip(totals, counts)]
            if counts[1]:
                print(f"FAILED  {name} ({counts[1]})")
            if counts[2]:
                reason = SKIP_REASON.search(output)
                skips.append(f"skipped {name} ({counts[2]}){': ' + reason.group(1).strip() if reason else ''}")
    print("\n".join(skips))
    print(f"{totals[0]} passed, {totals[1]} failed, {totals[2]} skipped")
    sys.exit(1 if totals[1] or not totals[0] else 0)


if __name__ == "__main__":
    main()
