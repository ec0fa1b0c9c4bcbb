"""From a checkpoint on disk to vectors, against what transformers, sentence-transformers, peft and
colpali-engine make of the same files (tests/golden)."""

import pytest

from golden import Agreement, embed, kept

numpy = pytest.importorskip("numpy", reason="numpy makes the checkpoints")
import golden_inputs  # noqa: E402  (needs numpy, and golden's path)

PRECISIONS = ["fp32", "bf16", "int8"]
BASE_NAME = "vidore/colpaligemma-3b-pt-448-base"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return golden_inputs.write_pictures(tmp_path_factory.mktemp("pictures"))


def argument(entry, pictures):
    if entry["kind"] == "image":
        return "--image", str(pictures[entry["input"]])
    texts = golden_inputs.QUERIES if entry["kind"] == "query" else golden_inputs.PASSAGES
    return "--" + entry["kind"], texts[entry["input"]]


def compare(folder, name, precision, pictures, arguments=(), **settings):
    """Every input kept of `name`, in as few runs as its prompts allow."""
    agreement, entries = Agreement(), kept(name)
    prompts = [p for p in golden_inputs.PROMPTS if any(e["prompt"] == p for e, _ in entries)]
    for prompt in prompts or [None]:
        part = [(e, rows) for e, rows in entries
                if e["prompt"] == prompt or (e["prompt"] is None and prompt in (None, "question"))]
        got = embed(folder, [argument(e, pictures) for e, _ in part], precision,
                    arguments=arguments, **settings, **({"QUERY_PROMPT": prompt} if prompt else {}))
        for (entry, rows), vectors in zip(part, got):
            agreement.add(f"{entry['kind']} {entry['input']} {prompt or ''}".strip(), vectors, rows)
    agreement.judge(precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["sentence", "colbert", "colpali-hf", "colpali-merged",
                                  "colpali-merged-today"])
def test_a_checkpoint(name, precision, checkpoint, pictures):
    compare(checkpoint(name), name, precision, pictures)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_adapter_finds_its_base_in_the_hubs_cache(precision, checkpoint, pictures, tmp_path):
    cache = tmp_path / "home" / "hub" / f"models--{BASE_NAME.replace('/', '--')}"
    (cache / "snapshots").mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123abcd", encoding="utf-8")
    (cache / "snapshots" / "0123abcd").symlink_to(checkpoint("colpali-base"))
    compare(checkpoint("colpali-adapter"), "colpali-adapter", precision, pictures,
            HF_HOME=str(tmp_path / "home"))


def test_an_adapter_as_peft_saves_it_today(checkpoint, pictures):
    compare(checkpoint("colpali-adapter-today"), "colpali-adapter", "fp32", pictures,
            arguments=["--base", str(checkpoint("colpali-base"))])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_full_width_with_loud_channels(precision, checkpoint, pictures):
    compare(checkpoint("colpali-full"), "colpali-full", precision, pictures)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_packed_weights_give_the_same_vectors(precision, checkpoint, pictures, tmp_path):
    folder, asked = checkpoint("colpali-merged"), [("--image", str(pictures["dot"]))]
    first = embed(folder, asked, precision, scratch=tmp_path)
    assert list((tmp_path / "data" / "models" / "packed").iterdir())
    assert embed(folder, asked, precision, scratch=tmp_path) == first


def test_a_batch_gives_what_each_alone_gives(checkpoint, pictures):
    folder = checkpoint("colpali-merged")
    asked = [("--image", str(pictures[name])) for name in ("page", "single", "dot")]
    asked += [("--query", text) for text in golden_inputs.QUERIES]
    together = embed(folder, asked)
    for one, vectors in zip(asked, together):
        alone = embed(folder, [one], BATCH_SIZE_VISUAL="1", BATCH_SIZE_TEXT="1")[0]
        assert abs(numpy.array(alone) - numpy.array(vectors)).max() < 1e-5
