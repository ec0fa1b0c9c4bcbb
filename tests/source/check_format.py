#!/usr/bin/env python3
"""Whether clang-format would leave every C source as it is. Skips (status 77) where clang-format 14
is not installed: other versions lay out a few constructs otherwise."""

import re
import shutil
import subprocess
import sys

from tree import ROOT, files

VERSION = "14"
SKIPPED = 77


def first_difference(path, program):
    text = path.read_text(encoding="utf-8")
    wanted = subprocess.run([program, str(path)], check=True, capture_output=True,
                            encoding="utf-8", cwd=ROOT).stdout
    if text == wanted:
        return None
    have, want = text.split("\n"), wanted.split("\n")
    for i, pair in enumerate(zip(have, want), 1):
        if pair[0] != pair[1]:
            return i
    return min(len(have), len(want))


def main():
    program = shutil.which("clang-format-14") or shutil.which("clang-format")
    if not program:
        print("skipped: clang-format is not installed")
        return SKIPPED
    version = subprocess.run([program, "--version"], check=True, capture_output=True,
                             encoding="utf-8").stdout
    found = re.search(r"version (\d+)", version)
    if not found or found.group(1) != VERSION:
        print(f"skipped: clang-format {VERSION} is wanted, this is {version.strip()}")
        return SKIPPED
    n_wrong = 0
    for path in files(["src", "tests", "fuzz", "bench"], {".c", ".h"}):
        line_i = first_difference(path, program)
        if line_i:
            print(f"{path.relative_to(ROOT)}:{line_i}: not as clang-format lays it out (make format)")
            n_wrong += 1
    print(f"{n_wrong} findings")
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
