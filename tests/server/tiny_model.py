"""Small text models with random weights, in the files that a hub holds: nothing but this script
makes them. What they compute means nothing; that it is computed is what tests look at."""

import json
import random
import string
import struct

WORDS = ["the", "lighthouse", "harbour", "walrus", "boat", "rope", "anchor", "was", "painted"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
HIDDEN, LAYERS, HEADS, INNER, POSITIONS = 32, 2, 2, 64, 64


def vocabulary():
    letters = string.ascii_lowercase + string.digits
    return SPECIAL + list(letters) + [f"##{c}" for c in letters] + list(".,:?!-") + WORDS


def tokenizer(vocab):
    marks = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True}
    ids = {token: i for i, token in enumerate(vocab)}
    special = {token: {"id": token, "ids": [ids[token]], "tokens": [token]}
               for token in ("[CLS]", "[SEP]")}
    start, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]"))
    text = [{"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB")]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": ids[token], "content": token, **marks} for token in SPECIAL],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": [start, text[0], end],
                           "pair": [start, text[0], end, text[1], end], "special_tokens": special},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": ids},
    }


def shapes(n_tokens):
    yield "embeddings.word_embeddings.weight", (n_tokens, HIDDEN)
    yield "embeddings.position_embeddings.weight", (POSITIONS, HIDDEN)
    yield "embeddings.token_type_embeddings.weight", (2, HIDDEN)
    norms = ["embeddings.LayerNorm"]
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for name, n, k in (("attention.self.query", HIDDEN, HIDDEN),
                           ("attention.self.key", HIDDEN, HIDDEN),
                           ("attention.self.value", HIDDEN, HIDDEN),
                           ("attention.output.dense", HIDDEN, HIDDEN),
                           ("intermediate.dense", INNER, HIDDEN), ("output.dense", HIDDEN, INNER)):
            yield f"{layer}.{name}.weight", (n, k)
            yield f"{layer}.{name}.bias", (n,)
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for name in norms:
        yield f"{name}.weight", (HIDDEN,)
        yield f"{name}.bias", (HIDDEN,)


def safetensors(tensors, seed):
    """tensors: name -> shape; the file's bytes, float32."""
    rng = random.Random(seed)
    header, data = {}, []
    at = 0
    for name, shape in tensors.items():
        n = shape[0] * (shape[1] if len(shape) > 1 else 1)
        middle = 1 if name.endswith("LayerNorm.weight") else 0
        data.append(struct.pack(f"<{n}f", *(rng.gauss(middle, 0.2) for _ in range(n))))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + 4 * n]}
        at += 4 * n
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + b"".join(data)


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def make_bert(folder, seed=7):
    """A sentence-transformers model: mean pooling, unit length. Gives the folder."""
    vocab = vocabulary()
    write_json(folder / "config.json", {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": INNER,
        "hidden_act": "gelu", "max_position_embeddings": POSITIONS, "type_vocab_size": 2,
        "vocab_size": len(vocab), "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "position_embedding_type": "absolute"})
    write_json(folder / "tokenizer.json", tokenizer(vocab))
    write_json(folder / "tokenizer_config.json", {"do_lower_case": True, "model_max_length": 64})
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write_json(folder / "modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)])
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": False})
    write_json(folder / "1_Pooling" / "config.json", {
        "word_embedding_dimension": HIDDEN, "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False})
    (folder / "model.safetensors").write_bytes(safetensors(dict(shapes(len(vocab))), seed))
    return folder
