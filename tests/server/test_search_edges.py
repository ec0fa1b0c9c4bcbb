"""Questions at the edge: of stop words, too long, without letters, with nothing but words to leave
out, over an empty index; words left out in every mode."""

import json
import subprocess

import pytest

from running import PROGRAM, SLOW
from test_embedding_pipeline import models, search, serve, text_of, wait_models  # noqa: F401

MODES = ("hybrid", "text", "lexical", "visual")
EDGES = {"stop words": "what is the of and to", "no spaces": "x" * 1000, "punctuation": "?!.,;:--()",
         "quotes": '"""', "emoji": "\U0001F980\U0001F30A", "left out": "-heron -lantern",
         "left out phrase": '-"heron lantern"', "long": "heron lantern copper " * 47,
         "chinese": "\u6d77" * 1000, "operators": "AND OR NOT ( * ^ NEAR", "blank": " \t\u00a0",
         "stars": "****", "minus": "-"}


@pytest.fixture(scope="module")
def both(tmp_path_factory, checkpoint):
    """A server with both models and eight documents; shared, since questions change nothing."""
    from running import Running
    folder = tmp_path_factory.mktemp("edges")
    server = Running(folder / "data", TEXT_MODEL=str(checkpoint("sentence")),
                     MODEL_NAME=str(checkpoint("colpali-merged")), MODEL_PRECISION="fp32",
                     MODELS_DIR=str(folder / "models"))
    wait_models(server)
    for i in range(6):
        server.read(text_of(i, 20).encode(), f"{i}.txt")
    server.read(b"The heron stands in the reeds, and the crab \xf0\x9f\xa6\x80 walks.\n", "heron.txt")
    server.read(b"what is the of and to\n", "common.txt")
    yield server
    server.stop()


def no_times(reply):
    return (reply["results"], [(name, stage["candidates"], stage.get("note"))
                               for name, stage in reply["stages"].items()])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", EDGES)
def test_every_question_has_an_answer_and_it_repeats(both, name, mode):
    first, second = (search(both, EDGES[name], mode) for _ in range(2))
    assert no_times(first) == no_times(second)
    assert not any("unavailable" in stage for stage in first["stages"].values())
    scores = [hit["score"] for hit in first["results"]]
    assert scores == sorted(scores, reverse=True)


def names(reply):
    return [hit["filename"] for hit in reply["results"]]


def test_stop_words_find_what_has_them(both):
    for mode in ("hybrid", "lexical"):
        reply = search(both, EDGES["stop words"], mode)
        assert names(reply)[0] == "common.txt", mode
        best = reply["results"][0]
        marked = [best["text_preview"][a:b] for a, b in best["highlights"]]
        assert marked == ["what", "is", "the", "of", "and", "to"]


def test_an_emoji_is_a_word(both):
    assert names(search(both, "\U0001F980", "lexical")) == ["heron.txt"]
    assert search(both, "\U0001F30A", "lexical")["results"] == []
    assert search(both, EDGES["punctuation"], "lexical")["results"] == []


def test_only_words_to_leave_out_ask_for_nothing(both):
    for mode in MODES:
        reply = search(both, "-heron -\"copper meadow\"", mode)
        assert reply["results"] == []
        for name, stage in reply["stages"].items():
            assert stage["candidates"] == 0
            assert name == "lexical" or stage["note"] == \
                "the question has only words to leave out"


def test_a_question_that_is_cut_is_said_to_be(both):
    for mode, stage in (("text", "dense"), ("hybrid", "dense")):
        reply = search(both, EDGES["chinese"], mode)
        note = reply["stages"][stage]["note"]
        assert note.startswith("the question was cut at ") and note.endswith(" tokens")
        limit = int(note.split()[-2])
        assert 0 < limit < 1000
        # What the model reads of it is what it reads of the part that fits.
        whole = {hit["doc_id"]: hit["parts"]["dense"]["score"] for hit in reply["results"]
                 if "dense" in hit["parts"]}
        fits = search(both, EDGES["chinese"][:limit - 2], mode)
        assert "note" not in fits["stages"][stage]
        assert whole == {hit["doc_id"]: pytest.approx(hit["parts"]["dense"]["score"], abs=1e-6)
                         for hit in fits["results"] if "dense" in hit["parts"]}
        more = search(both, EDGES["chinese"][:limit - 1], mode)
        assert more["stages"][stage]["note"] == note
    assert "note" not in search(both, "heron", "hybrid")["stages"]["dense"]


def test_words_to_leave_out_hold_in_every_mode(both):
    without = {f"{i}.txt" for i in range(6) if "copper" not in text_of(i, 20)}
    assert 0 < len(without) < 6
    for mode in ("hybrid", "text", "visual"):
        everything = search(both, "violin harbor", mode)
        assert len(everything["results"]) == 8 or mode != "hybrid"
        left = search(both, "violin harbor -copper", mode)
        assert set(names(left)) == without | {"heron.txt", "common.txt"}, mode
        # The rest keeps its order: models do not see the word.
        kept = [name for name in names(everything) if name in set(names(left))]
        if mode != "hybrid":
            assert names(left) == kept
            assert [hit["score"] for hit in left["results"]] == \
                [hit["score"] for hit in everything["results"] if hit["filename"] in kept]
    assert set(names(search(both, "violin harbor -copper", "lexical"))) <= without
    phrase = search(both, 'violin -"heron stands"', "text")
    assert "heron.txt" not in names(phrase) and len(phrase["results"]) == 7
    common = search(both, "violin -what", "text")  # also a word that says little
    assert "common.txt" not in names(common) and len(common["results"]) == 7


def test_a_page_is_left_out_by_what_stands_on_it(both):
    _, document = both.read(b"violin on the first page\n\fcopper on the second\n\fviolin again\n",
                            "three.txt")
    try:
        for mode in ("visual", "hybrid"):
            left = search(both, "violin -copper", mode, 100,
                          filters={"doc_id": document["doc_id"]})
            found = {hit["page_num"] for hit in left["results"] if "visual" in hit["parts"]}
            assert found == {1, 3}, mode
    finally:
        both.request("DELETE", f"/documents/{document['doc_id']}")


def test_an_empty_index_answers(serve):  # noqa: F811
    server = serve(visual="colpali-merged")
    for mode in MODES:
        for question in ("heron", *EDGES.values()):
            reply = search(server, question, mode)
            assert reply["results"] == [] and reply["total_results"] == 0
            assert not any("unavailable" in stage or stage.get("note", "").endswith("model")
                           for stage in reply["stages"].values())


def test_the_command_says_what_a_stage_says(both):
    def run(*arguments):
        done = subprocess.run([PROGRAM, "search", *arguments], env=both.env, capture_output=True,
                              text=True, timeout=60 * SLOW)
        assert done.returncode == 0, done.stderr
        return done

    said = run("--mode", "text", EDGES["chinese"]).stderr
    assert "in the dense stage: the question was cut at " in said and "reindex" not in said
    said = run("--", "-heron").stderr
    assert "0 results" in said and "the question has only words to leave out" in said
    exact = json.loads(run("--exact", "--json", "violin").stdout)
    assert exact["results"] == json.loads(run("--json", "violin").stdout)["results"]
    assert "stage" not in run("--exact", "violin").stderr
