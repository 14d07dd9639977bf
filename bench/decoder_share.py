#!/usr/bin/env python3
"""What T5's decode step costs beside its encoder: a folder in T5-base's shape with its decoder, and one with the encoder
alone (mean pooling, so that every row is computed), over the same pairs of 256 tokens.

    python decoder_share.py CRANK [--dtype int8] [--batch-tokens N] [--pairs 8] [--rounds 5] [--keep DIR]

Needs numpy and 1.5 GB of disk. The two runs alternate; CPU time less that of opening the file, so that other load on the
machine counts little. The weights are random (time does not depend on them), the vocabulary is small (the step reads two
of its rows).
"""
import argparse
import json
import os
import resource
import struct
import subprocess
import tempfile

import numpy as np

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("crank")
parser.add_argument("--dtype", default="int8")
parser.add_argument("--batch-tokens")
parser.add_argument("--pairs", type=int, default=8)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--keep")
args = parser.parse_args()

PROMPT = "Query: {q} Document: {d} Relevant:"
LAYERS, D, HEADS, K, F = 12, 768, 12, 64, 3072
PIECES = ["<pad>", "</s>", "<unk>", "▁true", "▁false", "▁Query", "▁Document", "▁Relevant", ":"] + [f"▁w{i}" for i in range(500)]


def tensors(decoder):
    inner = HEADS * K
    yield "shared.weight", (len(PIECES), D)
    yield "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", (32, HEADS)
    for side, cross in (("encoder", False),) + ((("decoder", True),) if decoder else ()):
        for l in range(LAYERS):
            block = f"{side}.block.{l}.layer."
            for part in ["0.SelfAttention"] + (["1.EncDecAttention"] if cross else []):
                for name in "qkv":
                    yield f"{block}{part}.{name}.weight", (inner, D)
                yield f"{block}{part}.o.weight", (D, inner)
                yield f"{block}{part[0]}.layer_norm.weight", (D,)
            last = 2 if cross else 1
            yield f"{block}{last}.DenseReluDense.wi.weight", (F, D)
            yield f"{block}{last}.DenseReluDense.wo.weight", (D, F)
            yield f"{block}{last}.layer_norm.weight", (D,)
        yield f"{side}.final_layer_norm.weight", (D,)
    if not decoder:
        yield "dense.weight", (1, D)


def write_folder(folder, decoder):
    os.makedirs(folder, exist_ok=True)
    rng, header, at, shapes = np.random.default_rng(1), {}, 0, list(tensors(decoder))
    for name, shape in shapes:
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes:
            ones = "layer_norm" in name
            f.write((np.ones(shape, np.float32) if ones else 0.03 * rng.standard_normal(shape, np.float32)).tobytes())
    config = dict(model_type="t5", vocab_size=len(PIECES), d_model=D, d_kv=K, d_ff=F, num_layers=LAYERS, num_heads=HEADS,
                  feed_forward_proj="relu", tie_word_embeddings=True, n_positions=512, classifier_pooling="mean")
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "normalizer": None, "decoder": None,
                 "added_tokens": [{"id": i, "content": PIECES[i], "single_word": False, "lstrip": False,
                                   "rstrip": False, "normalized": False, "special": True} for i in range(3)],
                 "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
                 "post_processor": None,
                 "model": {"type": "Unigram", "unk_id": 2, "byte_fallback": False,
                           "vocab": [[p, 0.0 if i < 3 else -float(i) / 100] for i, p in enumerate(PIECES)]}}
    for name, value in (("config.json", config), ("tokenizer.json", tokenizer),
                        ("tokenizer_config.json", {"tokenizer_class": "T5TokenizerFast", "eos_token": "</s>"})):
        with open(os.path.join(folder, name), "w") as f:
            json.dump(value, f, ensure_ascii=False)


def cpu_seconds(model, lines):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run([args.crank, "score", "-m", model, "--threads", "1", "--max-length", "256", "--prompt", PROMPT, "-"]
                   + (["--batch-tokens", args.batch_tokens] if args.batch_tokens else []),
                   input="".join(lines), capture_output=True, text=True, check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def measure(root):
    rng = np.random.default_rng(2)
    words = lambda n: " ".join(f"w{i}" for i in rng.integers(0, 500, n))
    lines = [f"{words(8)}\t{words(400)}\n" for _ in range(args.pairs)]
    models = []
    for name, decoder in (("encoder-alone", False), ("with-decoder", True)):
        folder = os.path.join(root, name)
        write_folder(folder, decoder)
        models.append(f"{folder}.{args.dtype}.crank")
        subprocess.run([args.crank, "convert", folder, "-o", models[-1], "--dtype", args.dtype, "--prompt", PROMPT],
                       check=True, capture_output=True)
    opened = [min(cpu_seconds(m, []) for _ in range(3)) for m in models]
    rounds = [[cpu_seconds(m, lines) - o for m, o in zip(models, opened)] for _ in range(args.rounds)]
    alone, full = (min(r[i] for r in rounds) / args.pairs for i in range(2))
    print(f"T5-base shape, 256 tokens a pair, {args.dtype}, one thread, CPU time, best of {args.rounds}: encoder alone "
          f"{1e3 * alone:.1f} ms a pair, with the decode step {1e3 * full:.1f} ms: the step is "
          f"{100 * (full / alone - 1):.1f} % of the encoder")


if args.keep:
    measure(args.keep)
else:
    with tempfile.TemporaryDirectory() as directory:
        measure(directory)
