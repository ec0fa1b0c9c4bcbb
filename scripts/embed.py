#!/usr/bin/env python3
"""Writes a C table of files: embed.py OUT.c DEPFILE SERVED_FOLDER [NAME=FILE ...]

Every file under SERVED_FOLDER is named by its path from there ("/index.html"); further files by the
name given. Dot files, build files and notes are left out."""
import hashlib
import os
import sys

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
}


def served(folder):
    """(name, path) of the files to serve, and every folder looked into."""
    files, folders = [], [folder]
    for where, dirs, names in os.walk(folder):
        dirs[:] = sorted(d for d in dirs if not d.startswith("."))
        folders += [os.path.join(where, d) for d in dirs]
        for name in sorted(names):
            path = os.path.join(where, name)
            if os.path.splitext(name)[1] in TYPES and not name.startswith("."):
                files.append(("/" + os.path.relpath(path, folder).replace(os.sep, "/"), path))
    return files, folders


def main():
    out, depfile, folder = sys.argv[1:4]
    files, seen = served(folder) if os.path.isdir(folder) else ([], [])
    files += [tuple(arg.split("=", 1)) for arg in sys.argv[4:]]
    with open(out, "w", encoding="ascii") as c:
        c.write('#include "api/internal.h"\n')
        table = []
        for i, (name, path) in enumerate(files):
            with open(path, "rb") as file:
                data = file.read()
            c.write(f"static const unsigned char data_{i}[] = {{\n")
            for at in range(0, len(data), 24):
                c.write(",".join(str(b) for b in data[at:at + 24]) + ",\n")
            c.write("0};\n")
            etag = hashlib.sha256(data).hexdigest()[:20]
            media_type = TYPES[os.path.splitext(path)[1]]
            table.append(f'{{"{name}", "{media_type}", "\\"{etag}\\"", data_{i}, {len(data)}}},\n')
        c.write("const struct web_file web_files[] = {\n" + "".join(table) +
                "{NULL, NULL, NULL, NULL, 0}};\n")
    with open(depfile, "w", encoding="utf-8") as dep:
        dep.write(f"{out}: " + " ".join(p.replace(" ", "\\ ")
                                         for p in [path for _, path in files] + seen) + "\n")


main()
