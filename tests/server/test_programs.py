"""What the tests of a shared ChromaDB and of Copyparty stand on: that these servers are started,
ended and damaged as is said."""

import http.client
import random
import time

import pytest

from chroma_server import ChromaServer

LOST = (OSError, http.client.HTTPException)


def rows(n, dim=8):
    choose = random.Random(n)
    return {f"d-page{i:03}": ([choose.random() for _ in range(dim)], {"doc_id": f"d{i % 3}"})
            for i in range(n)}


def test_a_taken_port_is_a_failure(chroma, tmp_path):
    with pytest.raises(AssertionError, match="ended with 0, port(?s:.*)is not available"):
        ChromaServer(tmp_path / "second", chroma.port).start()
    assert chroma.up()


def test_what_was_added_outlives_a_kill(chroma):
    chroma.make("pages", docusearch_space="x")
    chroma.add("pages", rows(50))
    with chroma.supervise():
        chroma.kill()
        deadline = time.monotonic() + 60
        while not (chroma.alive and chroma.up()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert chroma.deaths == [-9]
        chroma.stop()
        time.sleep(0.5)
        assert not chroma.alive  # stopped is not dead
        chroma.start()
    assert chroma.counts() == {"pages": 50}
    assert chroma.collections()["pages"]["metadata"] == {"docusearch_space": "x"}
    assert len(chroma.metadata("pages", {"doc_id": "d1"})) == 17
    found = chroma.rows("pages", vectors=True, page=20)
    assert list(found) == list(rows(50))
    assert found["d-page007"]["embedding"] == pytest.approx(rows(50)["d-page007"][0])
    [(nearest, distance)] = chroma.query("pages", rows(50)["d-page031"][0], n=1)
    assert nearest == "d-page031" and distance == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("how", ["crash", "error", "lost"])
def test_damage_is_what_it_is_said_to_be(chroma, how):
    for name in ("pages", "passages"):
        chroma.make(name, hnsw={"sync_threshold": 10000})
        chroma.add(name, rows(60))
    chroma.damage("pages", how)
    assert set(chroma.collections()) == {"pages", "passages"}
    for _ in range(2):
        if how == "crash":
            with pytest.raises(LOST):
                chroma.query("pages", [0.5] * 8)
            chroma.process.wait(10)
            assert chroma.process.returncode < 0
            chroma.start()
        elif how == "error":
            with pytest.raises(AssertionError, match="500"):
                chroma.query("pages", [0.5] * 8)
        else:
            assert chroma.count("pages") == 60 and len(chroma.query("pages", [0.5] * 8)) <= 2
        assert len(chroma.query("passages", [0.5] * 8)) == 10


def test_copyparty_takes_moves_and_deletes(start_copyparty):
    copyparty = start_copyparty()
    assert copyparty.put("a b.txt", b"one").endswith("/docs/a%20b.txt")
    other = copyparty.put("a b.txt", b"two")
    assert other.rpartition("/")[2] not in ("a%20b.txt", "")
    copyparty.put("a b.txt", b"three", replace=True)
    copyparty.post("form.pdf", b"four")
    copyparty.make_folder("sub")
    copyparty.copy("form.pdf", "sub/copy.pdf")
    copyparty.move("a b.txt", "sub/moved.txt")
    copyparty.delete("form.pdf")
    there = {str(path.relative_to(copyparty.files)): path.read_bytes()
             for path in copyparty.files.rglob("*") if path.is_file() and ".hist" not in path.parts}
    assert sorted(there.values()) == [b"four", b"three", b"two"]
    assert there["sub/moved.txt"] == b"three" and there["sub/copy.pdf"] == b"four"
    copyparty.kill()
    copyparty.start()
    assert copyparty.request("GET", "/docs/sub/moved.txt") == (200, "three")
