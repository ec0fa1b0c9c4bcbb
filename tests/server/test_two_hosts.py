"""Two workers on two hosts, namespaces with host names and addresses of their own, share one
ChromaDB on a third."""

import shutil

import pytest

from chroma_server import ChromaServer
from namespaces import hosts
from running import SLOW  # noqa: F401
from test_embedding_pipeline import models, pages_of, search, text_of, wait_models  # noqa: F401
from test_shared import PAGES, answers, everywhere, known, nowhere, settled, store, until


@pytest.fixture
def network(tmp_path, models):  # noqa: F811
    """(serve, chroma): serve(i) -> a worker on host i."""
    with hosts(tmp_path) as (places, address):
        chroma = ChromaServer(tmp_path / "chroma-server", host=address)
        running = []

        def serve(i):
            server = places[i].serve(
                tmp_path / f"host{i}", CHROMA_HOST=address, CHROMA_PORT=str(chroma.port),
                MODEL_NAME=str(models["colpali-merged"]), TEXT_MODEL=str(models["sentence"]),
                MODEL_PRECISION="fp32", MODELS_DIR=str(tmp_path / f"models{i}"))
            running.append(server)
            wait_models(server)
            return server

        try:
            chroma.start()
            yield serve, chroma
        finally:
            for server in running:
                if server.process.poll() is None:
                    server.stop()
            chroma.stop()


def test_two_hosts(network):
    serve, chroma = network
    first, second = serve(0), serve(1)
    assert store(first)["worker"].startswith("host0:")
    assert store(second)["worker"].startswith("host1:")
    ids = {"a": first.read(pages_of("hostsa", 2), "a.txt")[1]["doc_id"],
           "b": second.read(pages_of("hostsb", 3), "b.txt")[1]["doc_id"]}
    for server in (first, second):
        ids["both"] = server.read(pages_of("hostsboth", 1), "both.txt")[1]["doc_id"]
    for server in (first, second):
        settled(server)
        until(lambda server=server: set(known(server)) == set(ids.values()), what="all documents")
        for name, doc_id in ids.items():
            assert everywhere(server, doc_id, text_of(f"hosts{name}x0")), name
    assert chroma.counts()[PAGES] == 6
    assert answers(first, "heron lantern") == answers(second, "heron lantern")
    # Removed on the other host, on both while one is away, and the store lost meanwhile.
    assert second.request("DELETE", f"/documents/{ids['a']}").status == 200
    until(lambda: ids["a"] not in known(first), what="the removal")
    assert first.stop() == 0
    assert second.request("DELETE", f"/documents/{ids['both']}").status == 200
    settled(second)
    chroma.stop()
    shutil.rmtree(chroma.data)
    chroma.start()
    until(lambda: store(second)["reachable"] and chroma.counts().get(PAGES) == 3, what="its own")
    first = serve(0)
    for server in (first, second):
        until(lambda server=server: set(known(server)) == {ids["b"]}, what="the removals")
        assert nowhere(server, ids["both"], text_of("hostsbothx0"))
        assert everywhere(server, ids["b"], text_of("hostsbx0"))
    assert chroma.counts()[PAGES] == 3
