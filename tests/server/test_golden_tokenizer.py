"""Ids of our tokenizers against those of the `tokenizers` library, kept as digests."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from minilm import find_minilm
from running import PROGRAM, ROOT, SLOW

GOLDEN = ROOT / "tests" / "golden" / "tokenizer"
TOKENIZE = Path(PROGRAM).parent / "tests" / "golden" / "tokenizer" / "tokenize"
KEPT = json.loads((GOLDEN / "digests.json").read_text())
MINILM = "all-MiniLM-L6-v2"

sys.path.insert(0, str(GOLDEN))
import lines  # noqa: E402

pytestmark = pytest.mark.skipif(not TOKENIZE.exists(), reason=f"no program at {TOKENIZE}")


def digests(path, made, n_each):
    text = b"".join(lines.escaped(line) for line in made)
    done = subprocess.run([TOKENIZE, path], input=text, capture_output=True, timeout=300 * SLOW)
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines(keepends=True)
    assert len(rows) == text.count(b"\n")
    return [hashlib.sha256(b"".join(rows[at:at + n_each])).hexdigest()[:16]
            for at in range(0, len(rows), n_each)]


def different(got, wanted):
    assert len(got) == len(wanted)
    return [i for i, (ours, theirs) in enumerate(zip(got, wanted)) if ours != theirs]


def test_the_lines_are_those_of_the_reference():
    made = hashlib.sha256(b"".join(lines.escaped(line) for line in lines.lines())).hexdigest()
    assert made == KEPT["lines_sha256"]


@pytest.mark.parametrize("name", ["wordpiece", "bpe", "bytes"])
def test_a_hundred_thousand_lines_have_the_same_ids(name):
    path, kept = GOLDEN / f"{name}.json", KEPT["files"][name]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == kept["sha256"]
    groups = list(lines.GROUPS)
    bad = different(digests(path, lines.lines(), 1000), kept["lines"])
    assert not bad, {groups[i * 1000 // lines.N_EACH] for i in bad}


@pytest.mark.parametrize("name", ["wordpiece", "bytes"])
def test_every_code_point_has_the_same_ids(name):
    bad = different(digests(GOLDEN / f"{name}.json", lines.every_code_point(), 16384),
                    KEPT["files"][name]["every_code_point"])
    assert not bad, f"blocks of 16384 lines: {bad}"


def test_the_published_tokenizer_of_minilm():
    folder, why = find_minilm()
    if why:
        pytest.skip(why)
    path = folder / "tokenizer.json"
    kept = KEPT["files"][MINILM]
    if hashlib.sha256(path.read_bytes()).hexdigest() != kept["sha256"]:
        pytest.skip(f"{path} is another tokenizer.json than the one kept digests are of")
    assert not different(digests(path, lines.lines(), 1000), kept["lines"])
