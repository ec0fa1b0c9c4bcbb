"""Every mode with every state of the two models: what is there answers, what is not is said."""

import shutil

import pytest

from running import Running
from test_embedding_pipeline import model, pages_of, text_of, wait_models

STATES = ("ready", "empty", "not_installed", "failed", "off")
MODES = ("hybrid", "text", "lexical", "visual")
WHY = {"empty": "no document has vectors of this model", "not_installed": "no {} model is installed",
       "failed": "the {} model could not be loaded", "off": "the {} model is switched off",
       "loading": "the {} model is loading"}
CODES = {"not_installed": (503, "model_not_installed"), "failed": (503, "model_failed"),
         "off": (503, "model_not_installed")}


class Corpus:
    """One model a kind, in folders whose files are changed to what a state asks for, and documents
    that both models have embedded, or only one of them, or none."""

    def __init__(self, root, checkpoint):
        self.root = root
        self.whole = {"text": checkpoint("sentence"), "visual": checkpoint("colpali-merged")}
        self.filled = set()

    def setting(self, kind, state):
        folder = self.root / kind
        shutil.rmtree(folder, ignore_errors=True)
        if state == "off":
            return "none"
        if state == "not_installed":
            return str(folder)
        shutil.copytree(self.whole[kind], folder)
        if state == "failed":
            (folder / "tokenizer.json").write_text("{}")
        return str(folder)

    def start(self, name, text, visual):
        return Running(self.root / name, TEXT_MODEL=self.setting("text", text),
                       MODEL_NAME=self.setting("visual", visual), MODEL_PRECISION="fp32",
                       MODELS_DIR=str(self.root / "models"))

    def serve(self, text, visual):
        embedded = ["off" if state == "empty" else "ready" for state in (text, visual)]
        name = "-".join(embedded)
        if name not in self.filled:
            self.filled.add(name)
            server = self.start(name, *embedded)
            wait_models(server)
            for i in range(3):
                server.read(text_of(i, 20).encode(), f"{i}.txt")
            server.read(pages_of("pages", 3), "pages.txt")
            server.stop()
        return self.start(name, text, visual)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, checkpoint):
    return Corpus(tmp_path_factory.mktemp("states"), checkpoint)


@pytest.mark.parametrize("text, visual", [(text, visual) for text in STATES for visual in STATES
                                          if "ready" in (text, visual) or text == visual])
def test_what_is_there_answers(corpus, text, visual):
    server = corpus.serve(text, visual)
    try:
        check_loading(server, text, visual)
        wait_models(server)
        for kind, state in (("text", text), ("visual", visual)):
            assert model(server, kind)["state"] == ("ready" if state == "empty" else state)
        for mode in MODES:
            check(server, mode, {"dense": ("text", text), "visual": ("visual", visual)})
    finally:
        server.stop()


def check_loading(server, text, visual):
    """A model that is still loading is said to be, and is not waited for."""
    answer = server.request("POST", "/search", {"query": "lantern"}).json
    for stage, kind, state in (("dense", "text", text), ("visual", "visual", visual)):
        told = answer["stages"][stage].get("unavailable", "")
        fine = state == "ready" and not told
        assert fine or told == WHY["loading"].format(kind) or \
            (state in WHY and told.startswith(WHY[state].format(kind)))
    assert answer["results"]


def check(server, mode, states):
    reply = server.request("POST", "/search", {"query": "lantern harbor heron", "n_results": 10,
                                               "search_mode": mode})
    visual = states["visual"][1]
    if mode == "visual" and visual in CODES:
        assert (reply.status, reply.code) == CODES[visual]
        return
    assert reply.status == 200, reply.body
    answer = reply.json
    asked = {"hybrid": ("dense", "visual"), "text": ("dense",), "lexical": (), "visual": ("visual",)}
    acting = set()
    for stage in asked[mode]:
        kind, state = states[stage]
        told = answer["stages"][stage]
        if state == "ready":
            acting.add(stage)
            assert "unavailable" not in told and "note" not in told and told["candidates"] > 0
        elif mode == "visual":  # nothing else was asked for: an answer of nothing
            assert state == "empty" and told["note"] == "4 documents have no vectors of this model"
        else:
            assert told["unavailable"].startswith(WHY[state].format(kind))
    if mode in ("hybrid", "lexical") or (mode == "text" and not acting):
        acting.add("lexical")
    given = {stage for hit in answer["results"] for stage in hit["parts"]}
    assert given == acting
    assert bool(answer["results"]) == bool(acting)
    if mode == "hybrid" and answer["results"]:  # 1 is first in every stage that acted
        for hit in answer["results"]:
            assert hit["score"] == pytest.approx(
                sum(61 / (60 + part["rank"]) for part in hit["parts"].values()) / len(acting))
