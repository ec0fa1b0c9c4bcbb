"""The project's own files, and C with its comments and strings blanked."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LEFT_OUT = {".git", ".venv", "__pycache__", "node_modules", ".pytest_cache"}
INPUTS = ROOT / "fuzz" / "corpus"  # any bytes


def files(folders, suffixes=None):
    """Paths under the given folders of the project, sorted; suffixes None means all."""
    found = []
    for folder in folders:
        for here, names, inside in os.walk(ROOT / folder):
            names[:] = [n for n in names if n not in LEFT_OUT and Path(here) / n != INPUTS]
            found += [Path(here) / name for name in inside]
    return sorted(p for p in found if suffixes is None or p.suffix in suffixes)


def lines(path):
    """Numbered lines of a text file; none for what is not text."""
    try:
        return list(enumerate(path.read_text(encoding="utf-8").split("\n"), 1))
    except UnicodeDecodeError:
        return []


TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def bare_code(text):
    """C without the contents of comments, strings and characters; lines stay where they were."""
    def blank(match):
        token = match.group(0)
        if token[0] in "\"'":
            return token[0] + token[0]
        return "\n" * token.count("\n")
    return TOKEN.sub(blank, text)
