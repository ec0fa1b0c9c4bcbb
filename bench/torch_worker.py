#!/usr/bin/env python3
"""PyTorch's side of models.py: loads a model once, then obeys one JSON command a line on standard
input and answers each with one JSON line.

usage: torch_worker.py colpali|sentence FOLDER bf16|fp32 THREADS

{"pages": [path, …], "batch": n} · {"queries": [text, …]} · {"passages": [text, …], "batch": n}
"""

import json
import os
import sys
import time

START = time.monotonic()


def memory():
    with open("/proc/self/status", encoding="utf-8") as status:
        kept = dict(line.split(":", 1) for line in status)
    return int(kept["VmHWM"].split()[0]) * 1024


class ColPali:
    def __init__(self, folder, dtype):
        import torch
        from tokenizers import Tokenizer
        from transformers import ColPaliForRetrieval
        self.torch, self.dtype = torch, dtype
        self.model = ColPaliForRetrieval.from_pretrained(folder, dtype=dtype).eval()
        self.tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        vision = self.model.config.vlm_config.vision_config
        self.size, self.patches = vision.image_size, (vision.image_size // vision.patch_size) ** 2

    def forward(self, texts, **more):
        ids = self.torch.tensor([e.ids for e in self.tokenizer.encode_batch(
            texts, add_special_tokens=False)])
        with self.torch.inference_mode():
            return self.model(input_ids=ids, attention_mask=self.torch.ones_like(ids),
                              **more).embeddings.float().numpy()

    def pages(self, paths, batch):
        import numpy
        from PIL import Image
        for at in range(0, len(paths), batch):
            part = [Image.open(path).convert("RGB").resize((self.size, self.size), 3)
                    for path in paths[at:at + batch]]
            values = numpy.stack([numpy.asarray(p, numpy.float32) for p in part]) / 127.5 - 1
            values = self.torch.from_numpy(values.transpose(0, 3, 1, 2).copy()).to(self.dtype)
            text = "<image>" * self.patches + "<bos>Describe the image.\n"
            self.forward([text] * len(part), pixel_values=values)

    def queries(self, texts):
        for text in texts:
            self.forward(["<bos>Question: " + text + "<pad>" * 10 + "\n"])


class Sentence:
    def __init__(self, folder, dtype):
        from sentence_transformers import SentenceTransformer
        self.model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": dtype})

    def passages(self, texts, batch):
        self.model.encode(texts, batch_size=batch)

    def queries(self, texts):
        for text in texts:
            self.model.encode([text])


def main():
    kind, folder, precision, n_threads = sys.argv[1:5]
    import torch
    torch.set_num_threads(int(n_threads))
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = (ColPali if kind == "colpali" else Sentence)(folder, dtype)
    print(json.dumps({"ready": time.monotonic() - START, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        command, begun = json.loads(line), time.monotonic()
        if "pages" in command:
            model.pages(command["pages"], command["batch"])
        elif "queries" in command:
            model.queries(command["queries"])
        else:
            model.passages(command["passages"], command["batch"])
        print(json.dumps({"seconds": time.monotonic() - begun, "memory": memory()}), flush=True)


main()
