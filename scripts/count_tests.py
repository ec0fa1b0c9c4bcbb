#!/usr/bin/env python3
"""Counts tests over reports: Meson's testlog.json and pytest's JUnit XML.

A cmocka program counts by its cases, any other program as one. A program that ended badly counts as
one failure more than its cases told of none; a report that is missing is one failure. Prints why
tests were skipped, what failed, and last "N passed, N failed, N skipped"; status 1 when any failed.
"""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

SUMMARY = re.compile(r"^\[  (PASSED|FAILED|SKIPPED) *\] (\d+) test\(s\)", re.MULTILINE)
CASE = re.compile(r"^\[ +(RUN|OK|FAILED|SKIPPED|ERROR) +\] (\w+)$")


class Counts:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def skip(self, name, reason):
        print(f"skipped {name}: {reason or 'no reason given'}")

    def fail(self, name, reason):
        print(f"failed {name}: {reason}")


def skip_reasons(output):
    """Name and printed lines of each cmocka case that was skipped."""
    said = []
    seen = set()
    for line in output.splitlines():
        case = CASE.match(line)
        if not case:
            said.append(line.strip())
            continue
        what, name = case.groups()
        if what == "SKIPPED" and name not in seen:
            seen.add(name)
            yield name, " ".join(said).removeprefix("skipped: ")
        said = []


def count_meson(counts, path):
    for line in path.read_text().splitlines():
        test = json.loads(line)
        name, result = test["name"], test["result"]
        output = test.get("stdout", "") + test.get("stderr", "")
        cases = {"PASSED": 0, "FAILED": 0, "SKIPPED": 0}
        for kind, n in SUMMARY.findall(output):
            cases[kind] += int(n)
        if result == "SKIP":
            counts.skipped += 1
            reason = [text for text in output.splitlines() if text.strip()]
            counts.skip(name, reason[-1].removeprefix("skipped: ") if reason else "")
            continue
        good = result in ("OK", "EXPECTEDFAIL")
        if not sum(cases.values()):
            cases["PASSED" if good else "FAILED"] = 1
        elif not good and not cases["FAILED"]:
            cases["FAILED"] = 1
        counts.passed += cases["PASSED"]
        counts.failed += cases["FAILED"]
        counts.skipped += cases["SKIPPED"]
        if not good:
            counts.fail(name, result.lower())
        if cases["SKIPPED"]:
            for case, reason in skip_reasons(output):
                counts.skip(f"{name}: {case}", reason)


def count_junit(counts, path):
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        bad = case.find("failure")
        if bad is None:
            bad = case.find("error")
        skipped = case.find("skipped")
        if bad is not None:
            counts.failed += 1
            counts.fail(name, (bad.get("message") or "").splitlines()[:1])
        elif skipped is not None:
            counts.skipped += 1
            counts.skip(name, skipped.get("message"))
        else:
            counts.passed += 1


def main():
    counts = Counts()
    for path in map(Path, sys.argv[1:]):
        if not path.exists():
            counts.failed += 1
            counts.fail(path, "no such report: the tests did not run")
        elif path.suffix == ".json":
            count_meson(counts, path)
        else:
            count_junit(counts, path)
    print(f"{counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped")
    return 1 if counts.failed or not counts.passed else 0


if __name__ == "__main__":
    sys.exit(main())
