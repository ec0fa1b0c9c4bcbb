"""Collections as the Python worker made them: through ChromaDB's own client, row by row, in its
layout. Two ages of it: "a", whose passages have a preview alone, and "b", with whole texts, sections
and times."""

import base64
import gzip
import hashlib
import json
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone

import numpy

DIM = 128


def unit(rows):
    rows = numpy.asarray(rows, dtype=numpy.float32)
    return (rows / numpy.linalg.norm(rows, axis=1, keepdims=True)).astype(numpy.float32)


def some_vectors(generator, n, dim=DIM):
    return unit(generator.standard_normal((n, dim)))


def packed(vectors):
    return base64.b64encode(gzip.compress(vectors.tobytes(), compresslevel=6)).decode()


def mapped(their_id):
    """The id that docusearch knows a document of theirs by."""
    return hashlib.sha256(f"python-worker:{their_id}".encode()).hexdigest()


@dataclass
class Document:
    filename: str
    age: str = "b"
    pages: dict = field(default_factory=dict)   # number, from 1 -> vectors
    chunks: dict = field(default_factory=dict)  # number, from 0 -> (text, page, vectors)
    their_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    metadata: dict = field(default_factory=dict)
    when: datetime = datetime(2025, 10, 31, 12, 34, 56, 789012, tzinfo=timezone.utc)

    @property
    def doc_id(self):
        return mapped(self.their_id)

    def of_all_rows(self):
        extension = self.filename.rpartition(".")[2]
        found = {"filename": self.filename, "source_path": f"/uploads/{self.filename}",
                 "title": self.filename.rpartition(".")[0], "author": "", "created": "",
                 "format": extension, "num_pages": max(self.pages, default=1),
                 "original_filename": self.filename, "mimetype": f"application/{extension}"}
        if self.age == "a":
            del found["original_filename"], found["mimetype"]
        return found | self.metadata

    def of_vectors(self, kind, vectors):
        n, dim = vectors.shape
        return {"doc_id": self.their_id, "type": kind, "full_embeddings": packed(vectors),
                "seq_length": n, "embedding_shape": f"({n}, {dim})",
                "timestamp": self.when.replace(tzinfo=None).isoformat()}

    def page_row(self, page):
        row = self.of_vectors("visual", self.pages[page]) | {"page": page} | self.of_all_rows()
        if self.age == "b":
            row |= {"image_path": f"/data/images/{self.their_id}/page{page:03d}.png",
                    "thumb_path": f"/data/images/{self.their_id}/page{page:03d}_thumb.jpg",
                    "has_structure": True, "num_headings": 2, "num_tables": 0, "num_pictures": 1,
                    "structure": base64.b64encode(gzip.compress(b'{"headings":[]}')).decode()}
        return f"{self.their_id}-page{page:03d}", self.pages[page][0], row

    def chunk_row(self, number):
        text, page, vectors = self.chunks[number]
        row = self.of_vectors("text", vectors) | {
            "chunk_id": number, "page": page, "text_preview": text[:200],
            "word_count": len(text.split())} | self.of_all_rows()
        if self.age == "b":
            row |= {"chunk_id": f"{self.their_id}-chunk{number:04d}", "full_text": text,
                    "has_timestamps": False, "has_context": True, "parent_heading": "Part",
                    "parent_heading_level": 2, "section_path": f"{self.filename} > Part",
                    "element_type": "text", "is_page_boundary": True,
                    "related_tables": json.dumps([]), "related_pictures": json.dumps([]),
                    "page_nums": json.dumps([page, page + 1])}
        return f"{self.their_id}-chunk{number:04d}", vectors[0], row


class Collections:
    """The two, of a server of ChromaDB's; made as the worker made them, in l2."""

    def __init__(self, port, visual="visual_collection", text="text_collection"):
        import chromadb
        from chromadb.config import Settings
        self.client = chromadb.HttpClient(host="127.0.0.1", port=port, settings=Settings(
            allow_reset=False, anonymized_telemetry=False))
        self.visual = self.client.get_or_create_collection(
            visual, metadata={"type": "visual", "description": "Page-level visual embeddings"})
        self.text = self.client.get_or_create_collection(
            text, metadata={"type": "text", "description": "Chunk-level text embeddings"})

    def add(self, document):
        for page in document.pages:
            self.add_rows(self.visual, [document.page_row(page)])
        for number in document.chunks:
            self.add_rows(self.text, [document.chunk_row(number)])

    @staticmethod
    def add_rows(collection, rows):
        collection.add(ids=[row[0] for row in rows], embeddings=[row[1].tolist() for row in rows],
                       metadatas=[row[2] for row in rows])

    def remove(self, document):
        for collection in (self.visual, self.text):
            collection.delete(where={"doc_id": document.their_id})


def maxsim(question, vectors):
    """As it is defined, in double; rows of zeros are a batch's filling."""
    vectors = numpy.asarray(vectors, dtype=numpy.float64)
    vectors = vectors[numpy.linalg.norm(vectors, axis=1) > 0]
    return float((numpy.asarray(question, dtype=numpy.float64) @ vectors.T).max(axis=1).sum())
