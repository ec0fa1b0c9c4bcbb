#!/usr/bin/env python3
"""Trains the small tokenizers of the golden checkpoints: tokenizers/bert.json (WordPiece, as of
all-MiniLM-L6-v2) and tokenizers/gemma.json (BPE with byte fallback, as of PaliGemma). Run by hand,
with the `tokenizers` library; what it writes is kept."""

import json
import pathlib

from tokenizers import (AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

OUT = pathlib.Path(__file__).parent / "tokenizers"
TEXT = """
What was the revenue of the second quarter? Describe the image. Question: Query: How many pages does
the report have, and on which page does the table of expenses stand? The invoice of 12 March 2024 was
paid late; the total is 1,234.56 euros. A native document-search server reads files, embeds each page
as a picture and each passage as text, and answers questions with the page and the place on the page.
The boundary layer of a flat plate in supersonic flow is laminar up to a Reynolds number of about two
million. Heat transfer was measured at the stagnation point of a blunt body. Who signed the contract?
Wie hoch war der Umsatz? Quelle est la date de la facture? Où est la signature? ¿Cuánto cuesta?
Какова сумма договора? 合同的总金额是多少 請求書の日付 계약서의 날짜 ما هو تاريخ الفاتورة
the of and to in is that it for on with as was at by an be this from or are which not have one all
page pages document documents table tables figure figures section chapter title author date total
""".strip().split("\n")


def bert():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[unused0]", "[unused1]", "[unused2]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=520, special_tokens=special, show_progress=False,
                                        initial_alphabet=list("!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~0123"
                                                              "456789"))
    tokenizer.train_from_iterator(TEXT, trainer)
    ids = {name: tokenizer.token_to_id(name) for name in special}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])])
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding(length=128, pad_id=0, pad_token="[PAD]")
    tree = json.loads(tokenizer.to_str())
    # The unused ones are words like others in the published vocabularies.
    tree["added_tokens"] = [t for t in tree["added_tokens"] if "unused" not in t["content"]]
    return tree


def gemma():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=760, special_tokens=special + ["\n", "\n\n"] + bytes_,
                                  show_progress=False, min_frequency=1, limit_alphabet=70)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_special_tokens([AddedToken("<image>", normalized=False, special=True)])
    bos = tokenizer.token_to_id("<bos>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", bos)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                           decoders.Fuse()])
    tree = json.loads(tokenizer.to_str())
    # Bytes and line ends are words, not added tokens.
    tree["added_tokens"] = [t for t in tree["added_tokens"] if t["content"] in special + ["<image>"]]
    return tree


def main():
    OUT.mkdir(exist_ok=True)
    for name, make in (("bert", bert), ("gemma", gemma)):
        text = json.dumps(make(), ensure_ascii=False, indent=0, separators=(",", ":"))
        (OUT / f"{name}.json").write_text(text + "\n", encoding="utf-8")


main()
