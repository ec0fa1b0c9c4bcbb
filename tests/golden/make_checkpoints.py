#!/usr/bin/env python3
"""Small random checkpoints of the published architectures, in the published folders' forms.

    make_checkpoints.py FOLDER [NAME…]     makes FOLDER/NAME for each name (all without one)

Only numpy and the standard library; the same bytes on every machine: values come from a counter run
through an integer hash, summed to a bell shape in integers, and each is multiplied once in float32.
reference.py keeps what the reference implementations make of them.
"""

import hashlib
import json
import pathlib
import shutil
import sys

import numpy

HERE = pathlib.Path(__file__).parent
BLOCK = 1 << 18


# ---- values ------------------------------------------------------------------------------------

def bell(name, start, n):
    """Whole numbers of a bell shape around 0, standard deviation 37837, from a named sequence."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    z = numpy.arange(start + 1, start + n + 1, dtype=numpy.uint64)
    z *= numpy.uint64(0x9E3779B97F4A7C15)
    z += numpy.uint64(seed)
    z ^= z >> numpy.uint64(30)
    z *= numpy.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> numpy.uint64(27)
    z *= numpy.uint64(0x94D049BB133111EB)
    z ^= z >> numpy.uint64(31)
    parts = z.view(numpy.uint16).reshape(n, 4).astype(numpy.int32)
    return parts.sum(axis=1, dtype=numpy.int32) - numpy.int32(131070)


class Tensor:
    """name in the file; seed: its name in every form; scale: standard deviation around offset;
    loud: (axis, places, factor) multiplies some channels."""

    def __init__(self, name, shape, scale, offset=0.0, dtype="F32", seed=None, loud=None):
        self.name, self.shape, self.dtype = name, tuple(shape), dtype
        self.scale, self.offset, self.seed, self.loud = scale, offset, seed or name, loud
        self.n = int(numpy.prod(shape))

    def n_bytes(self):
        return self.n * (4 if self.dtype == "F32" else 2)

    def floats(self, start, n):
        out = bell(self.seed, start, n).astype(numpy.float32)
        out *= numpy.float32(self.scale / 37837)
        out += numpy.float32(self.offset)
        if self.loud:
            axis, places, factor = self.loud
            inner = int(numpy.prod(self.shape[axis + 1:]))
            at = numpy.arange(start, start + n) // inner % self.shape[axis]
            out[numpy.isin(at, places)] *= numpy.float32(factor)
        return out

    def write(self, file):
        for start in range(0, self.n, BLOCK):
            file.write(stored(self.floats(start, min(BLOCK, self.n - start)), self.dtype))


def stored(values, dtype):
    if dtype == "F32":
        return values.tobytes()
    if dtype == "F16":
        return values.astype(numpy.float16).tobytes()
    bits = values.view(numpy.uint32)  # to nearest, ties to even
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(numpy.uint16).tobytes()


# ---- files -------------------------------------------------------------------------------------

def write_safetensors(path, tensors):
    head, at = {"__metadata__": {"format": "pt"}}, 0
    for tensor in tensors:
        head[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape),
                             "data_offsets": [at, at + tensor.n_bytes()]}
        at += tensor.n_bytes()
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            tensor.write(file)


def write_json(path, tree):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")


def write_sharded(folder, tensors, n_shards):
    """As transformers names them, each shard a run of the tensors."""
    names = [f"model-{i + 1:05}-of-{n_shards:05}.safetensors" for i in range(n_shards)]
    place = {}
    for i, name in enumerate(names):
        part = tensors[i * len(tensors) // n_shards:(i + 1) * len(tensors) // n_shards]
        write_safetensors(folder / name, part)
        place.update({tensor.name: name for tensor in part})
    write_json(folder / "model.safetensors.index.json", {
        "metadata": {"total_size": sum(t.n_bytes() for t in tensors)}, "weight_map": place})


def take_tokenizer(folder, name):
    shutil.copyfile(HERE / "tokenizers" / f"{name}.json", folder / "tokenizer.json")


# ---- BERT --------------------------------------------------------------------------------------

BERT = {"attention_probs_dropout_prob": 0.1, "gradient_checkpointing": False, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "hidden_size": 72, "initializer_range": 0.02,
        "intermediate_size": 200, "layer_norm_eps": 1e-12, "max_position_embeddings": 320,
        "model_type": "bert", "num_attention_heads": 3, "num_hidden_layers": 3, "pad_token_id": 0,
        "position_embedding_type": "absolute", "transformers_version": "4.8.2",
        "type_vocab_size": 2, "use_cache": True, "vocab_size": 512}


def bert_tensors(config, seed, prefix="", dtype="F32"):
    width, inner = config["hidden_size"], config["intermediate_size"]
    out = []

    def add(name, shape, scale, offset=0.0):
        out.append(Tensor(prefix + name, shape, scale, offset, dtype, seed + name))

    def linear(name, n, k):
        add(name + ".weight", (n, k), k ** -0.5)
        add(name + ".bias", (n,), 0.1)

    def norm(name):
        add(name + ".weight", (width,), 0.15, 1.0)
        add(name + ".bias", (width,), 0.1)

    add("embeddings.word_embeddings.weight", (config["vocab_size"], width), 0.5)
    add("embeddings.position_embeddings.weight", (config["max_position_embeddings"], width), 0.2)
    add("embeddings.token_type_embeddings.weight", (2, width), 0.2)
    norm("embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{i}."
        for part in ("query", "key", "value"):
            linear(at + "attention.self." + part, width, width)
        linear(at + "attention.output.dense", width, width)
        norm(at + "attention.output.LayerNorm")
        linear(at + "intermediate.dense", inner, width)
        linear(at + "output.dense", width, inner)
        norm(at + "output.LayerNorm")
    linear("pooler.dense", width, width)
    return out


def make_sentence(folder):
    """As sentence-transformers/all-MiniLM-L6-v2."""
    write_json(folder / "config.json", {"architectures": ["BertModel"], **BERT})
    write_json(folder / "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling",
         "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize",
         "type": "sentence_transformers.models.Normalize"}])
    write_json(folder / "1_Pooling" / "config.json", {
        "word_embedding_dimension": BERT["hidden_size"], "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 256,
                                                      "do_lower_case": False})
    write_json(folder / "config_sentence_transformers.json", {
        "__version__": {"sentence_transformers": "2.0.0", "transformers": "4.6.1",
                        "pytorch": "1.8.1"}})
    take_tokenizer(folder, "bert")
    write_safetensors(folder / "model.safetensors", bert_tensors(BERT, "sentence:"))


COLBERT = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_token": "[Q]",
           "doc_token": "[D]", "dim": 24, "similarity": "cosine", "query_maxlen": 32,
           "doc_maxlen": 300, "mask_punctuation": True, "attend_to_mask_tokens": False,
           "interaction": "colbert"}


def make_colbert(folder):
    """As answerdotai/answerai-colbert-small-v1."""
    write_json(folder / "config.json", {"architectures": ["HF_ColBERT"], **BERT})
    write_json(folder / "artifact.metadata", COLBERT)
    take_tokenizer(folder, "bert")
    head = Tensor("linear.weight", (COLBERT["dim"], BERT["hidden_size"]), 0.12, 0.0, "F16",
                  "colbert:linear")
    write_safetensors(folder / "model.safetensors",
                      bert_tensors(BERT, "colbert:", "bert.", "F16") + [head])


# ---- ColPali -----------------------------------------------------------------------------------

VISION = {"hidden_size": 144, "intermediate_size": 430, "model_type": "siglip_vision_model",
          "num_attention_heads": 2, "num_hidden_layers": 3, "image_size": 112, "patch_size": 14,
          "projection_dim": 160, "projector_hidden_act": "gelu_fast", "vision_use_head": False}
TEXT = {"hidden_size": 160, "intermediate_size": 488, "model_type": "gemma",
        "num_attention_heads": 3, "num_hidden_layers": 3, "num_key_value_heads": 1, "head_dim": 64,
        "num_image_tokens": 64, "vocab_size": 824}
DIM = 128
IMAGE_TOKEN = 760  # past the words, within the rows of the embeddings
FULL_VISION = {**VISION, "hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16,
               "num_hidden_layers": 1, "projection_dim": 2048}
FULL_TEXT = {**TEXT, "hidden_size": 2048, "intermediate_size": 16384, "num_attention_heads": 8,
             "num_hidden_layers": 1, "head_dim": 256}

# Where a form keeps the language model, the vision tower, the projector and the head.
HF = ("vlm.language_model.model.", "vlm.vision_tower.", "vlm.multi_modal_projector.",
      "embedding_proj_layer.")
ENGINE = ("model.language_model.model.", "model.vision_tower.", "model.multi_modal_projector.",
          "custom_text_proj.")
ENGINE_TODAY = ("model.model.language_model.model.", "model.model.vision_tower.",
                "model.model.multi_modal_projector.", "custom_text_proj.")
# Of an adapter: the language model's layers, the head.
ADAPTER = ("base_model.model.model.language_model.model.", "base_model.model.custom_text_proj.")
ADAPTER_TODAY = ("base_model.model.model.model.language_model.",
                 "base_model.model.custom_text_proj.")


def text_linears(text):
    """name, n, k of each linear layer of a language layer."""
    width, inner, head = text["hidden_size"], text["intermediate_size"], text["head_dim"]
    n_q, n_kv = text["num_attention_heads"] * head, text["num_key_value_heads"] * head
    return [("self_attn.q_proj", n_q, width), ("self_attn.k_proj", n_kv, width),
            ("self_attn.v_proj", n_kv, width), ("self_attn.o_proj", width, n_q),
            ("mlp.gate_proj", inner, width), ("mlp.up_proj", inner, width),
            ("mlp.down_proj", width, inner)]


def colpali_tensors(vision, text, seed, form, dtype, loud=False):
    language, tower, projector, head = form
    out = []

    def add(prefix, name, shape, scale, offset=0.0, channels=None):
        if channels:
            channels = (*channels, 50.0)
        out.append(Tensor(prefix + name, shape, scale, offset, dtype, seed + name, channels))

    def loud_channels(width):
        return (0, [width // 7, width // 3, width - 5]) if loud else None

    width, inner = vision["hidden_size"], vision["intermediate_size"]
    size, patches = vision["patch_size"], (vision["image_size"] // vision["patch_size"]) ** 2
    at = "vision_model.embeddings."
    add(tower, at + "patch_embedding.weight", (width, 3, size, size), (3 * size * size) ** -0.5)
    add(tower, at + "patch_embedding.bias", (width,), 0.1)
    add(tower, at + "position_embedding.weight", (patches, width), 0.3)
    for i in range(vision["num_hidden_layers"]):
        at = f"vision_model.encoder.layers.{i}."
        for part, n, k in [("self_attn.k_proj", width, width), ("self_attn.v_proj", width, width),
                           ("self_attn.q_proj", width, width),
                           ("self_attn.out_proj", width, width), ("mlp.fc1", inner, width),
                           ("mlp.fc2", width, inner)]:
            add(tower, at + part + ".weight", (n, k), k ** -0.5)
            add(tower, at + part + ".bias", (n,), 0.1)
        for part in ("layer_norm1", "layer_norm2"):
            add(tower, at + part + ".weight", (width,), 0.15, 1.0, loud_channels(width))
            add(tower, at + part + ".bias", (width,), 0.1)
    add(tower, "vision_model.post_layernorm.weight", (width,), 0.15, 1.0)
    add(tower, "vision_model.post_layernorm.bias", (width,), 0.1)

    add(projector, "linear.weight", (text["hidden_size"], width), width ** -0.5)
    add(projector, "linear.bias", (text["hidden_size"],), 0.1)

    width = text["hidden_size"]
    # Gemma multiplies its embeddings by the root of the width.
    add(language, "embed_tokens.weight", (text["vocab_size"], width), width ** -0.5)
    for i in range(text["num_hidden_layers"]):
        for part, n, k in text_linears(text):
            add(language, f"layers.{i}.{part}.weight", (n, k), k ** -0.5)
        for part in ("input_layernorm", "post_attention_layernorm"):
            add(language, f"layers.{i}.{part}.weight", (width,), 0.15)
            if loud and part == "post_attention_layernorm":  # Gemma adds 1 to them
                out[-1].offset, out[-1].loud = 0.5, (*loud_channels(width), 98.0)
    add(language, "norm.weight", (width,), 0.15)
    out.append(Tensor(head + "weight", (DIM, width), width ** -0.5, 0.0, dtype, seed + "head.weight"))
    out.append(Tensor(head + "bias", (DIM,), 0.1, 0.0, dtype, seed + "head.bias"))
    return out


def make_hf(folder):
    """As vidore/colpali-v1.2-hf, in shards."""
    write_json(folder / "config.json", {
        "architectures": ["ColPaliForRetrieval"], "embedding_dim": DIM, "model_type": "colpali",
        "text_config": TEXT, "torch_dtype": "float32", "transformers_version": "4.46.3",
        "vlm_config": {"model_type": "paligemma", "bos_token_id": 2, "eos_token_id": 1,
                       "hidden_size": TEXT["hidden_size"], "ignore_index": -100,
                       "image_token_index": IMAGE_TOKEN, "pad_token_id": 0, "projection_dim": 160,
                       "text_config": TEXT, "vision_config": VISION,
                       "vocab_size": IMAGE_TOKEN}})
    take_tokenizer(folder, "gemma")
    write_sharded(folder, colpali_tensors(VISION, TEXT, "hf:", HF, "F32"), 3)


def engine_config(vision, text, dtype):
    return {"architectures": ["ColPali"], "bos_token_id": 2, "eos_token_id": 1,
            "hidden_size": text["hidden_size"], "ignore_index": -100,
            "image_token_index": IMAGE_TOKEN, "model_type": "paligemma", "pad_token_id": 0,
            "projection_dim": text["hidden_size"], "text_config": text, "torch_dtype": dtype,
            "transformers_version": "4.44.0", "vision_config": vision, "vocab_size": IMAGE_TOKEN}


def make_merged(folder):
    """As vidore/colpali-v1.2-merged."""
    write_json(folder / "config.json", engine_config(VISION, TEXT, "bfloat16"))
    take_tokenizer(folder, "gemma")
    write_safetensors(folder / "model.safetensors",
                      colpali_tensors(VISION, TEXT, "merged:", ENGINE, "BF16"))


def make_merged_today(folder):
    """The same weights as colpali-engine 0.3.18 saves them, in half precision."""
    write_json(folder / "config.json", engine_config(VISION, TEXT, "float16"))
    take_tokenizer(folder, "gemma")
    write_safetensors(folder / "model.safetensors",
                      colpali_tensors(VISION, TEXT, "merged:", ENGINE_TODAY, "F16"))


def make_base(folder):
    """As vidore/colpaligemma-3b-pt-448-base, what an adapter sits on."""
    write_json(folder / "config.json", engine_config(VISION, TEXT, "bfloat16"))
    take_tokenizer(folder, "gemma")
    write_sharded(folder, colpali_tensors(VISION, TEXT, "base:", ENGINE, "BF16"), 2)


def make_adapter(folder, form, base="vidore/colpaligemma-3b-pt-448-base"):
    """As vidore/colpali-v1.2: rank 5 over the language model and the head."""
    rank, alpha = 5, 10
    write_json(folder / "adapter_config.json", {
        "alpha_pattern": {}, "auto_mapping": None, "base_model_name_or_path": base,
        "bias": "none", "fan_in_fan_out": False, "inference_mode": True,
        "init_lora_weights": "gaussian", "layers_pattern": None, "layers_to_transform": None,
        "loftq_config": {}, "lora_alpha": alpha, "lora_dropout": 0.1, "megatron_config": None,
        "megatron_core": "megatron.core", "modules_to_save": None, "peft_type": "LORA", "r": rank,
        "rank_pattern": {}, "revision": None,
        "target_modules": "(.*(language_model).*(down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|"
                          "o_proj).*$|.*(custom_text_proj).*$)",
        "task_type": "FEATURE_EXTRACTION", "use_dora": False, "use_rslora": False})
    take_tokenizer(folder, "gemma")
    language, head = form
    parts = [(language + f"layers.{i}.{part}", f"layers.{i}.{part}", n, k)
             for i in range(TEXT["num_hidden_layers"]) for part, n, k in text_linears(TEXT)]
    parts.append((head.rstrip("."), "head", DIM, TEXT["hidden_size"]))
    tensors = []
    for name, seed, n, k in parts:
        tensors.append(Tensor(name + ".lora_A.weight", (rank, k), k ** -0.5, 0.0, "F32",
                              "adapter:" + seed + ".A"))
        tensors.append(Tensor(name + ".lora_B.weight", (n, rank), 0.2, 0.0, "F32",
                              "adapter:" + seed + ".B"))
    write_safetensors(folder / "adapter_model.safetensors", tensors)


def make_full(folder):
    """The published widths, one layer of each tower, a few channels 50 times as loud."""
    write_json(folder / "config.json", engine_config(FULL_VISION, FULL_TEXT, "bfloat16"))
    take_tokenizer(folder, "gemma")
    write_safetensors(folder / "model.safetensors",
                      colpali_tensors(FULL_VISION, FULL_TEXT, "full:", ENGINE, "BF16", loud=True))


CHECKPOINTS = {
    "sentence": make_sentence,
    "colbert": make_colbert,
    "colpali-hf": make_hf,
    "colpali-merged": make_merged,
    "colpali-merged-today": make_merged_today,
    "colpali-base": make_base,
    "colpali-adapter": lambda folder: make_adapter(folder, ADAPTER),
    "colpali-adapter-today": lambda folder: make_adapter(folder, ADAPTER_TODAY),
    "colpali-full": make_full,
}


def make(name, folder):
    """Makes the checkpoint in folder, which must not exist."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    CHECKPOINTS[name](folder)
    return folder


def main():
    names = sys.argv[2:] or list(CHECKPOINTS)
    for name in names:
        make(name, pathlib.Path(sys.argv[1]) / name)
        print(name)


if __name__ == "__main__":
    main()
