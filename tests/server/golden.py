"""The golden checkpoints, the vectors kept of them, and the program's own."""

import json
import subprocess
import sys

from running import PROGRAM, ROOT, SLOW, environment

GOLDEN = ROOT / "tests" / "golden"
sys.path.insert(0, str(GOLDEN))

BOUNDS = {  # worst cosine, mean cosine, largest difference
    "fp32": (0.99999, 0.99999, 1e-4),
    "bf16": (0.999, 0.999, None),
    "int8": (0.99, 0.998, None),
}


def embed(folder, inputs, precision="fp32", scratch=None, arguments=(), **settings):
    """inputs: ("--query", text) and the like. The vectors of each, as lists of rows."""
    done = run_embed(folder, inputs, precision, scratch, arguments, **settings)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    parts = told["inputs"] if "inputs" in told else [told]
    assert len(parts) == len(inputs)
    for part in parts:
        assert all(len(row) == part["dim"] for row in part["vectors"])
    return [part["vectors"] for part in parts]


def run_embed(folder, inputs, precision="fp32", scratch=None, arguments=(), **settings):
    data = (scratch or folder.parent) / "data"
    env = environment(data, MODEL_PRECISION=precision, HF_HUB_OFFLINE="1", **settings)
    told = [text for pair in inputs for text in pair]
    return subprocess.run([PROGRAM, "embed", "--model", str(folder), *arguments, *told], env=env,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=240 * SLOW, errors="surrogateescape")


def kept(name):
    """[(entry, rows)] of tests/golden/vectors/NAME."""
    import numpy
    listed = json.loads((GOLDEN / "vectors" / f"{name}.json").read_text(encoding="utf-8"))
    rows, at, out = numpy.load(GOLDEN / "vectors" / f"{name}.npy"), 0, []
    for entry in listed:
        out.append((entry, rows[at:at + entry["rows"]]))
        at += entry["rows"]
    assert at == len(rows)
    return out


class Agreement:
    """Collects rows against the reference's, judges them together at the end."""

    def __init__(self):
        self.cosines, self.differences = [], []

    def add(self, what, got, wanted):
        import numpy
        got = numpy.array(got, numpy.float64)
        assert got.shape == wanted.shape, f"{what}: {got.shape}, wanted {wanted.shape}"
        assert numpy.isfinite(got).all(), what
        lengths = numpy.linalg.norm(got, axis=1)
        assert abs(lengths - 1).max() < 1e-3, f"{what}: lengths {lengths.min()}..{lengths.max()}"
        wanted = wanted.astype(numpy.float64)
        cosines = (got * wanted).sum(axis=1) / lengths / numpy.linalg.norm(wanted, axis=1)
        self.cosines.append((what, cosines))
        self.differences.append(abs(got - wanted).max())

    def judge(self, precision, bounds=BOUNDS):
        import numpy
        worst, mean, difference = bounds[precision]
        everything = numpy.concatenate([cosines for _, cosines in self.cosines])
        by_input = ", ".join(f"{what} {cosines.min():.6f}" for what, cosines in self.cosines)
        said = (f"{precision}: worst {everything.min():.7f}, mean {everything.mean():.7f}, largest "
                f"difference {max(self.differences):.2e}; worst of each: {by_input}")
        print(said)
        assert everything.min() >= worst and everything.mean() >= mean, said
        assert difference is None or max(self.differences) <= difference, said


