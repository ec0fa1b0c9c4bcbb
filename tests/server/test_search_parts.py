"""What each stage gave to a result, in the reply and on the command line."""

import json
import subprocess

import pytest

from running import PROGRAM, SLOW
from test_embedding_pipeline import (models, search, serve, text_of,  # noqa: F401 (fixtures)
                                     wait_models)

STAGE_OF = {"lexical": "lexical", "text": "dense", "visual": "visual"}


@pytest.fixture
def filled(serve):  # noqa: F811
    server = serve(visual="colpali-merged")
    for i in range(6):
        server.read(text_of(i, 20).encode(), f"{i}.txt")
    server.read(b"Neither word of the question stands here.\n", "neither.txt")
    return server


def key(hit):
    return hit["doc_id"], hit["page_num"]


def test_one_stage_gives_the_whole_score(filled):
    for mode, stage in STAGE_OF.items():
        results = search(filled, "lantern harbor", mode)["results"]
        assert results
        for hit in results:
            assert hit["parts"] == {stage: {"rank": hit["rank"], "score": hit["score"],
                                            "contribution": hit["score"]}}


def test_hybrid_names_rank_and_score_of_each_stage(filled):
    alone = {stage: {key(hit): hit for hit in search(filled, "lantern harbor", mode)["results"]}
             for mode, stage in STAGE_OF.items()}
    results = search(filled, "lantern harbor", "hybrid")["results"]
    for hit in results:
        assert list(hit["parts"]) == [name for name in ("lexical", "dense", "visual")
                                      if key(hit) in alone[name]]
        for stage, part in hit["parts"].items():
            same = alone[stage][key(hit)]
            assert (part["rank"], part["score"]) == (same["rank"], same["score"])
            assert part["contribution"] == pytest.approx(61 / 3 / (60 + part["rank"]))
        assert sum(part["contribution"] for part in hit["parts"].values()) == \
            pytest.approx(hit["score"])
    assert any("lexical" not in hit["parts"] for hit in results)


def test_the_command_explains(filled):
    def run(*arguments):
        done = subprocess.run([PROGRAM, "search", *arguments], env=filled.env, capture_output=True,
                              text=True, timeout=60 * SLOW)
        assert done.returncode == 0, done.stderr
        return done.stdout

    reply = json.loads(run("--json", "lantern harbor"))
    assert all(hit["parts"] for hit in reply["results"])
    plain, told = run("lantern harbor"), run("--explain", "lantern harbor")
    assert "rank" not in plain
    lines = [line.strip() for line in told.splitlines() if "rank" in line]
    assert len(lines) == len(reply["results"])
    for line, hit in zip(lines, reply["results"]):
        assert line.count("gives") == len(hit["parts"])
        for stage, part in hit["parts"].items():
            assert f"{stage}: rank {part['rank']} by " in line
    assert "dense: rank 1 by" in run("--explain", "--mode", "text", "lantern harbor")
    assert "gives" not in run("--explain", "--mode", "text", "lantern harbor")
