#!/usr/bin/env python3
"""check_symbols.py BUILD: what the object files of a build folder give away. A function that is not
static is declared in a header of its module and begins with one of the module's prefixes; the program
exports nothing. Skips (status 77) where there is no nm of binutils."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tree import ROOT, bare_code, files

SKIPPED = 77

# The first word of a name: the module's own, and those of the things it holds.
PREFIXES = {
    "base": "arena buf cond cpu dir disk error fault fd file lock log mem metric notify path settings "
            "sha256 text thread time utf8",
    "sandbox": "sandbox filter landlock",
    "http": "http watch",
    "doc": "doc",
    "read": "read align container fault flow image layout ocr office ole ooxml page pages picture pixels "
            "place pool raw wire word xml",
    "device": "device attention code codes cpu dot maxsim precision signs tensor weight",
    "model": "added bert bpe checkpoint colpali config family gemma hub ids image json model normalizer "
             "packed pieces place pretokenizer siglip template tokenizer unicode vocab weights wordpiece",
    "store": "store changes chunks column conn document filter fold fulltext lexical matcher postings ranges "
             "reader stem superseded token tokens tx word",
    "index": "index item live part pooling rotate search segment shape slot space view",
    "queue": "queue",
    "chroma": "chroma legacy",
    "corpus": "corpus model upload uploads",
    "api": "api call document events handle heatmap job json route routes security upload web",
    "app": "check choose command failed hook is json print service session take terminal usage",
}

findings = []


def symbols(path, *options):
    """Names and kinds of what a file defines, without the compiler's and the linker's own."""
    listed = subprocess.run(["nm", "--defined-only", *options, str(path)], check=True,
                            capture_output=True, encoding="utf-8").stdout
    found = re.findall(r"^[0-9a-f]+ (\w) (\S+)$", listed, re.MULTILINE)
    return sorted((name, kind) for kind, name in found if not name.startswith("_"))


def check_module(module, objects):
    headers = "\n".join(bare_code(path.read_text(encoding="utf-8"))
                        for path in files([f"src/{module}"], {".h"}))
    for path in objects:
        for name, kind in symbols(path, "--extern-only"):
            if name == "main":
                continue
            if not re.search(rf"\b{name}\b" + (r"\s*\(" if kind in "TW" else ""), headers):
                findings.append(f"{module}: {name} is in no header of it: make it static")
            if name.split("_")[0] not in PREFIXES.get(module, module).split():
                findings.append(f"{module}: {name} begins with none of the module's words")


def check_program(program):
    if re.search(rb"__[at]san_init", program.read_bytes()):
        return  # the sanitizer's runtime exports its own
    for name, _ in symbols(program, "--dynamic"):
        if "@" not in name:  # with a version: libc's variable, kept in the program
            findings.append(f"{program.name} exports {name}")


def main():
    build = Path(sys.argv[1])
    if not shutil.which("nm") or sys.platform != "linux":
        print("skipped: no nm of binutils")
        return SKIPPED
    n_objects = 0
    for folder in sorted((ROOT / "src").iterdir()):
        module = folder.name
        objects = list((build / "src" / module).glob("*.a"))
        if module == "app":
            objects = sorted(build.glob("docusearch.p/src_app_*.o"))
        n_objects += len(objects)
        check_module(module, objects)
    program = build / "docusearch"
    if program.exists():
        check_program(program)
    for finding in findings:
        print(finding)
    print(f"{n_objects} libraries and objects, {len(findings)} findings")
    return 1 if findings or n_objects == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
