#!/usr/bin/env python3
"""Trains the three small tokenizers of this folder (--train) and writes down what the `tokenizers`
library makes of the lines with each of the files, as digests. Run by hand, with the library; what it
writes is kept. DOCUSEARCH_MINILM names a folder with the tokenizer.json of all-MiniLM-L6-v2, whose
digests are kept as they are where it is not set."""

import hashlib
import json
import os
import pathlib
import platform
import sys

import tokenizers
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

import lines

HERE = pathlib.Path(__file__).parent
MINILM = "all-MiniLM-L6-v2"
TEXT = [lines.as_read(line) for i, line in enumerate(lines.lines()) if i % 12 == 0]


def wordpiece():
    """As BERT's uncased ones."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(TEXT, trainers.WordPieceTrainer(
        vocab_size=3000, special_tokens=special, show_progress=False, limit_alphabet=900))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


def bpe():
    """As Gemma's: bytes for what is unknown, spaces as U+2581, no place to cut a text."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>", "<unused7>"]
    kept = special + [f"<0x{i:02X}>" for i in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=3000, special_tokens=kept, show_progress=False, limit_alphabet=700))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tree = json.loads(tokenizer.to_str())
    tree["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(tree))
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ["\n\n", "\n\n\n", "▁▁", "▁▁▁"]])
    tokenizer.add_tokens([AddedToken("[MASK]", lstrip=True, rstrip=True, normalized=True),
                          AddedToken("page", single_word=True, normalized=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 2)])
    return tokenizer


def bytes_level():
    """As GPT-2's, with the steps that the other two do not have."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.StripAccents()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation("contiguous"),
         pre_tokenizers.ByteLevel(add_prefix_space=True)])
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=1500, show_progress=False, special_tokens=["<unk>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(), processors.BertProcessing(("<eos>", 1), ("<unk>", 0))])
    return tokenizer


def digests(tokenizer, made, n_each):
    """Sixteen hex digits of SHA-256 over every n_each lines of ids."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    out, now = [], []
    def flush():
        encoded = tokenizer.encode_batch([lines.as_read(line) for line in now])
        text = "".join(" ".join(map(str, one.ids)) + "\n" for one in encoded)
        out.append(hashlib.sha256(text.encode()).hexdigest()[:16])
        now.clear()
    for line in made:
        now.append(line)
        if len(now) == n_each:
            flush()
    if now:
        flush()
    return out


def main():
    if "--train" in sys.argv:
        for name, train in {"wordpiece": wordpiece, "bpe": bpe, "bytes": bytes_level}.items():
            tree = json.loads(train().to_str())
            text = json.dumps(tree, ensure_ascii=False, separators=(",", ":"))
            (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    kept_path = HERE / "digests.json"
    kept = json.loads(kept_path.read_text())["files"] if kept_path.exists() else {}
    files = {name: HERE / f"{name}.json" for name in ("wordpiece", "bpe", "bytes")}
    if os.environ.get("DOCUSEARCH_MINILM"):
        files[MINILM] = pathlib.Path(os.environ["DOCUSEARCH_MINILM"]) / "tokenizer.json"
    for name, path in files.items():
        kept[name] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                      "lines": digests(Tokenizer.from_file(str(path)), lines.lines(), 1000)}
        if name in ("wordpiece", "bytes"):
            kept[name]["every_code_point"] = digests(Tokenizer.from_file(str(path)),
                                                     lines.every_code_point(), 16384)
    made = hashlib.sha256(b"".join(lines.escaped(line) for line in lines.lines())).hexdigest()
    versions = {"tokenizers": tokenizers.__version__, "python": platform.python_version()}
    kept_path.write_text(json.dumps({"made_with": versions, "lines_sha256": made, "files": kept},
                                    indent=1) + "\n")


main()
