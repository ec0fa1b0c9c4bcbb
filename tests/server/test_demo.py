"""The demonstration of the README, as a machine without a terminal runs it."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from conftest import alive
from running import PROGRAM, ROOT, environment

SCRIPT = ROOT / "scripts" / "demo.sh"
QUESTIONS = ROOT / "samples" / "questions.txt"


def questions():
    """(question, file, page) of each line."""
    return [line.split("\t") for line in QUESTIONS.read_text().splitlines() if line.strip()]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The finished run."""
    if not shutil.which("soffice"):
        pytest.skip("LibreOffice is not installed")
    for path in (SCRIPT, QUESTIONS, ROOT / "scripts" / "make-samples.sh"):
        if not path.exists():
            pytest.skip(f"no {path.relative_to(ROOT)}")
    data_dir = tmp_path_factory.mktemp("demo") / "data"
    env = {**environment(data_dir), "DOCUSEARCH_BIN": PROGRAM}
    env.pop("WORKER_PORT")
    done = subprocess.run(["sh", str(SCRIPT)], env=env, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=200)
    done.data_dir = data_dir
    return done


def answers(output):
    """question → (file, page) of its first answer."""
    found = {}
    for section in output.split("\n== ")[1:]:
        question, _, rest = section.partition("\n")
        if answer := re.search(r"^1\. (.*?)(?:  page (\d+))?  [\d.]+  [0-9a-f]{12}$", rest, re.M):
            found[question] = answer.groups()
    return found


def test_it_ends_well(demo):
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "Reading the samples" in demo.stdout
    assert re.search(r"\d+ added, 0 known already, 0 failed", demo.stderr), demo.stderr


def test_three_questions_are_answered(demo):
    found = answers(demo.stdout)
    wanted = {question: (file, page) for question, file, page in questions()}
    assert len(wanted) == 3 and found == wanted


def test_it_says_where_to_look(demo):
    assert re.search(r"Open http://127\.0\.0\.1:\d+/? in a browser", demo.stdout)


def test_the_server_is_gone(demo):
    holder = (demo.data_dir / "lock").read_text().split()[0]
    deadline = time.monotonic() + 5
    while alive(int(holder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(int(holder))
    assert "stopping" in (demo.data_dir / "server.log").read_text()


def test_a_second_run_knows_the_samples(demo):
    """Run again over what is there: the same answers."""
    env = {**environment(demo.data_dir), "DOCUSEARCH_BIN": PROGRAM}
    env.pop("WORKER_PORT")
    again = subprocess.run(["sh", str(SCRIPT)], env=env, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.search(r"0 failed", again.stderr) and answers(again.stdout) == answers(demo.stdout)
