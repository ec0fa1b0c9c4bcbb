#!/usr/bin/env python3
"""Checks of the sources that a compiler does not make. Prints each finding as file:line: what."""

import re
import sys

from tree import ROOT, bare_code, files, lines

# Ground floor first: a module includes only modules before it.
MODULES = ["base", "sandbox", "http", "doc", "read", "device", "model", "store", "queue", "index",
           "chroma", "corpus", "api", "app"]

# Further public headers, where one of 300 lines does not hold a module's face.
FACES = {"base/notify.h", "base/path_map.h", "base/settings.h", "chroma/legacy.h", "corpus/export.h",
         "corpus/sharing.h", "index/backup.h", "index/portable.h", "store/backup.h",
         "store/lacking.h", "store/shared.h", "store/sources.h"}

# Which module alone sees a library's headers.
LIBRARIES = {
    r"jansson\.h|openssl/.*|utf8proc\.h": "base",
    r"linux/landlock\.h|linux/seccomp\.h|linux/filter\.h|linux/audit\.h|seccomp\.h|sys/prctl\.h":
        "sandbox",
    r"microhttpd\.h|curl/.*": "http",
    r"mupdf/.*|LibreOfficeKit/.*|libxml/.*|zip\.h|tesseract/.*|leptonica/.*|allheaders\.h|"
    r"gumbo\.h|md4c.*\.h|webp/.*|tiffio\.h|jpeglib\.h|turbojpeg\.h|png\.h|openjpeg.*|hb.*\.h|ft2.*":
        "read",
    r"dnnl.*|cuda.*|cublas.*|ggml.*|immintrin\.h|x86intrin\.h|arm_neon\.h": "device",
    r"sqlite3\.h": "store",
    r"xxhash\.h|xxh3\.h": "index",
    r"zlib\.h": "chroma",
}

BANNED = re.compile(
    r"(?<![\w.>])(strcpy|stpcpy|strcat|strncat|sprintf|vsprintf|gets|system|popen|atoi|atol|atoll|"
    r"atof|strtok|alloca|strdup|strndup|asprintf|vasprintf)\s*\(")
ALLOCATES = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|reallocarray|free)\s*\(")
OWNED_ELSEWHERE = re.compile(r"/\* *\w.*\*/")

UNFINISHED = re.compile(
    r"\b(TODO|FIXME|XXX|HACK)\b|\b[Ss]tub(?:s|bed)?\b|\b[Mm]ock(?:s|ed|ing)?\b|"
    r"(?<![:.])\b[Pp]laceholders?\b(?!\s*[=:]|\")|\bfor now\b")
FORMAT_WORDS = {"placeholder", "placeholders"}  # shapes of a slide's layout, in OOXML
MACHINE_PATH = re.compile(r"(?<![\w.)}*-])/(?:work|root)/\w")

MAX_LINES = 1000
MAX_HEADER_LINES = 300
MAX_COLUMNS = 100

findings = []


def find(path, line_i, text):
    findings.append(f"{path.relative_to(ROOT)}:{line_i}: {text}")


def module_of(path):
    """The module a source belongs to, or tests: src/read/x.c and tests/unit/read/x.c are read's."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == "src":
        return parts[1]
    if parts[:2] == ("tests", "unit") and len(parts) > 3:
        return parts[2]
    return None


def is_test(path):
    return path.relative_to(ROOT).parts[0] == "tests"


def check_include(path, line_i, line):
    match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
    if not match:
        return
    name = match.group(2)
    module = module_of(path)
    other = name.split("/")[0]
    if "/" in name and other in MODULES and match.group(1) == '"':
        if MODULES.index(other) > MODULES.index(module):
            find(path, line_i, f"{module} may not include {other}, which stands above it")
        elif other != module and name != f"{other}/{other}.h" and name not in FACES:
            find(path, line_i, f"{name} is {other}'s own: include {other}/{other}.h")
    for pattern, owner in LIBRARIES.items():
        if re.fullmatch(pattern, name) and module != owner and not is_test(path):
            find(path, line_i, f"<{name}> belongs to {owner} alone")


def check_layers():
    for path in files(["src", "tests/unit"], {".c", ".h"}):
        module = module_of(path)
        if path.relative_to(ROOT).parts[0] == "src" and module not in MODULES:
            find(path, 1, f"'{module}' is no module of the house")
        elif module in MODULES:
            for line_i, line in lines(path):
                check_include(path, line_i, line)
    for module in MODULES:
        build = ROOT / "src" / module / "meson.build"
        for line_i, line in lines(build) if build.exists() else []:
            for other in re.findall(r"\b(\w+)_dep\b", line.split("#")[0]):
                if other in MODULES and MODULES.index(other) > MODULES.index(module):
                    find(build, line_i, f"{module} may not use {other}, which stands above it")


def check_calls():
    for path in files(["src"], {".c", ".h"}):
        text = path.read_text(encoding="utf-8")
        whole = text.split("\n")
        in_memory = path == ROOT / "src/base/memory.c"
        for line_i, line in enumerate(bare_code(text).split("\n"), 1):
            for match in BANNED.finditer(line):
                find(path, line_i, f"{match.group(1)} is not called here")
            for match in ALLOCATES.finditer(line) if not in_memory else []:
                if not OWNED_ELSEWHERE.search(whole[line_i - 1]):
                    find(path, line_i, f"{match.group(1)}: use base's memory, or say in a comment "
                                       "on the line whose block it is")


def check_lengths():
    sources = files(["src", "web", "tests", "fuzz", "bench", "scripts"],
                    {".c", ".h", ".py", ".sh", ".js", ".css", ".html"})
    for path in sources:
        text = lines(path)
        n_lines = len(text) - 1
        if n_lines > MAX_LINES:
            find(path, n_lines, f"{n_lines} lines; look for the second idea past {MAX_LINES}")
        folder = path.parent.name
        if path.relative_to(ROOT).parts[0] == "src" and path.name == f"{folder}.h":
            if n_lines > MAX_HEADER_LINES:
                find(path, n_lines, f"{n_lines} lines in a public header, past {MAX_HEADER_LINES}")
        if path.suffix in {".c", ".h"}:
            for line_i, line in text:
                if len(line) > MAX_COLUMNS:
                    find(path, line_i, f"{len(line)} columns, past {MAX_COLUMNS}")


def check_words():
    for path in files(["src", "web", "scripts"]):
        for line_i, line in lines(path):
            match = UNFINISHED.search(line)
            if match and not (path.name.startswith("ooxml") and match.group(0) in FORMAT_WORDS):
                find(path, line_i, f"'{match.group(0)}' in the product")
    everywhere = files(["src", "web", "scripts", "tests", "fuzz", "bench", "samples", "deploy",
                        "docs"])
    top = [p for p in sorted(ROOT.iterdir()) if p.is_file()]
    for path in everywhere + top:
        for line_i, line in lines(path):
            if MACHINE_PATH.search(line):
                find(path, line_i, "a path of one machine")


def main():
    check_layers()
    check_calls()
    check_lengths()
    check_words()
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
