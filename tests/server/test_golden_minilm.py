"""all-MiniLM-L6-v2, its published weights, against sentence-transformers (tests/golden)."""

import pytest

from golden import GOLDEN, Agreement, embed
from minilm import find_minilm

numpy = pytest.importorskip("numpy", reason="numpy reads the kept vectors")
import golden_inputs  # noqa: E402  (needs numpy, and golden's path)

BOUNDS = {"fp32": (0.9999, 0.9999, 1e-4), "bf16": (0.999, 0.999, None), "int8": (0.99, 0.99, None)}


@pytest.fixture(scope="module")
def folder():
    found, why = find_minilm()
    if not found:
        pytest.skip(why)
    return found


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("kind", ["--passage", "--query"])
def test_minilm(kind, precision, folder, tmp_path):
    texts, wanted = golden_inputs.MINILM_TEXTS, numpy.load(GOLDEN / "vectors" / "minilm.npy")
    assert len(texts) == len(wanted)
    agreement = Agreement()
    got = embed(folder, [(kind, text) for text in texts], precision, scratch=tmp_path)
    for text, vectors, row in zip(texts, got, wanted):
        agreement.add(repr(text[:12]), vectors, row[None])
    agreement.judge(precision, BOUNDS)
