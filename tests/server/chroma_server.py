"""A real ChromaDB server, and a client of its HTTP API for what tests set up and look at."""

import contextlib
import http.client
import json
import re
import shutil
import sqlite3
import struct
import urllib.error
import urllib.parse
import urllib.request

from programs import Program, Supervisor, program

D = "/api/v2/tenants/{}/databases/{}"
DEFAULT = ("default_tenant", "default_database")


class ChromaServer(Program):
    """Where its port is taken ChromaDB says so and ends, with status 0."""

    def __init__(self, folder, port=None, host="127.0.0.1"):
        super().__init__(folder, port)
        self.data = self.folder / "chroma"
        self.host = host
        self.url = f"http://{host}:{self.port}"

    def command(self):
        return [program("chroma"), "run", "--path", str(self.data), "--host", self.host,
                "--port", str(self.port)]

    def up(self):
        if "server listening on address" not in self.log:  # else another may answer on this port
            return False
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.request("GET", "/api/v2/heartbeat", timeout=2)[0] == 200
        return False

    def supervise(self, pause=0.2):
        return Supervisor(self, pause)

    @property
    def settings(self):
        """What makes a worker use it."""
        return {"CHROMA_HOST": self.host, "CHROMA_PORT": str(self.port)}

    # ---- requests --------------------------------------------------------------------------------

    def request(self, method, path, body=None, timeout=60):
        """Status and what the answer's JSON says (its text, where it is none)."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"},
                                       method=method)
        try:
            with urllib.request.urlopen(asked, timeout=timeout) as reply:
                status, said = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, said = error.code, error.read()
        try:
            return status, json.loads(said)
        except ValueError:
            return status, said.decode(errors="replace")

    def call(self, method, path, body=None, of=DEFAULT, timeout=60):
        """What a call below the database answers; it must succeed."""
        status, said = self.request(method, D.format(*of) + path, body, timeout)
        assert 200 <= status < 300, f"{method} {path}: {status} {said}"
        return said

    def make_database(self, tenant, database):
        """Both, where they are not there yet."""
        for path, name in (("/api/v2/tenants", tenant),
                           (f"/api/v2/tenants/{tenant}/databases", database)):
            status, said = self.request("POST", path, {"name": name})
            assert status in (200, 201, 409), said

    # ---- what is there ---------------------------------------------------------------------------

    def collections(self, of=DEFAULT):
        """By name, as the server tells of them: id, metadata, dimension, configuration_json."""
        return {one["name"]: one for one in self.call("GET", "/collections?limit=1000", of=of)}

    def uuid(self, name, of=DEFAULT):
        return self.call("GET", f"/collections/{urllib.parse.quote(name)}", of=of)["id"]

    def make(self, name, space="cosine", of=DEFAULT, hnsw=None, **metadata):
        """A collection; its UUID. hnsw: further parts of its index's configuration."""
        body = {"name": name, "configuration": {"hnsw": {"space": space, **(hnsw or {})}}}
        if metadata:
            body["metadata"] = metadata
        return self.call("POST", "/collections", body, of)["id"]

    def add(self, name, rows, of=DEFAULT):
        """rows: id -> (vector, metadata)."""
        self.call("POST", f"/collections/{self.uuid(name, of)}/add", {
            "ids": list(rows), "embeddings": [list(map(float, row[0])) for row in rows.values()],
            "metadatas": [row[1] for row in rows.values()]}, of)

    def count(self, name, of=DEFAULT):
        return self.call("GET", f"/collections/{self.uuid(name, of)}/count", of=of)

    def counts(self, of=DEFAULT):
        """Rows by the collections' names."""
        return {name: self.call("GET", f"/collections/{one['id']}/count", of=of)
                for name, one in self.collections(of).items()}

    def rows(self, name, where=None, of=DEFAULT, vectors=False, page=1000):
        """id -> {"metadata", "document"} and, asked for, "embedding"; all that where tells of."""
        path, found, at = f"/collections/{self.uuid(name, of)}/get", {}, 0
        include = ["metadatas", "documents"] + ["embeddings"] * vectors
        while True:
            body = {"limit": page, "offset": at, "include": include}
            said = self.call("POST", path, body | ({"where": where} if where else {}), of)
            for i, row_id in enumerate(said["ids"]):
                found[row_id] = {"metadata": said["metadatas"][i],
                                 "document": said["documents"][i]}
                if vectors:
                    found[row_id]["embedding"] = said["embeddings"][i]
            if len(said["ids"]) < page:
                return found
            at += page

    def metadata(self, name, where=None, of=DEFAULT):
        """id -> metadata."""
        return {row_id: row["metadata"] for row_id, row in self.rows(name, where, of).items()}

    def query(self, name, vector, n=10, where=None, of=DEFAULT):
        """[(id, distance)], nearest first."""
        body = {"query_embeddings": [list(map(float, vector))], "n_results": n,
                "include": ["distances"]}
        said = self.call("POST", f"/collections/{self.uuid(name, of)}/query",
                         body | ({"where": where} if where else {}), of)
        return list(zip(said["ids"][0], said["distances"][0]))

    # ---- damage ----------------------------------------------------------------------------------

    def database(self, **how):
        return contextlib.closing(sqlite3.connect(self.data / "chroma.sqlite3", **how))

    def index_folder(self, uuid):
        """Where a collection's vectors lie; all of them only once it is written_out."""
        with self.database() as db:
            row = db.execute("SELECT id FROM segments WHERE scope = 'VECTOR' AND collection = ?",
                             (uuid,)).fetchone()
        assert row, f"no segment of collection {uuid}"
        return self.data / row[0]

    def write_out(self, uuid):
        """Has the server write a collection's index, which it does when sync_threshold rows have
        come: for a moment, two are enough. It is stopped then."""
        self.stop()
        with self.database() as db, db:
            [(dim, schema)] = db.execute(
                "SELECT dimension, schema_str FROM collections WHERE id = ?", (uuid,))
            db.execute("UPDATE collections SET schema_str = ? WHERE id = ?",
                       (re.sub(r'"sync_threshold":\d+', '"sync_threshold":2', schema), uuid))
        self.start()
        self.call("POST", f"/collections/{uuid}/query", {"query_embeddings": [[0.5] * dim],
                                                         "n_results": 1})
        self.stop()
        with self.database() as db, db:
            db.execute("UPDATE collections SET schema_str = ? WHERE id = ?", (schema, uuid))

    def damage(self, name, how="crash", of=DEFAULT):
        """Leaves a collection (of two rows or more) as a kill in the midst of writing may, and
        starts the server again. how: "crash": a query or an add ends the server, always; "error":
        nearly every call of it is a 500; "lost": but for the last, its vectors are gone, and all
        else is there."""
        uuid = self.uuid(name, of)
        self.write_out(uuid)
        folder = self.index_folder(uuid)
        if how == "crash":  # each element's neighbours are none that there are
            header, path = (folder / "header.bin").read_bytes(), folder / "data_level0.bin"
            (size,) = struct.unpack_from("<Q", header, 28)
            elements = bytearray(path.read_bytes())
            nowhere = struct.pack("<33I", 32, *[1 << 30] * 32)
            for at in range(0, len(elements) - size + 1, size):
                elements[at:at + len(nowhere)] = nowhere
            path.write_bytes(elements)
        elif how == "error":
            (folder / "index_metadata.pickle").write_bytes(b"nothing")
        else:
            assert how == "lost"
            shutil.rmtree(folder)
        self.start()
