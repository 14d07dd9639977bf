#!/usr/bin/env python3
"""crank beside ONNX Runtime and sentence-transformers, on one machine, in one run.

    python bench/peers.py                                    MiniLM-L6, 100 pairs x 128 tokens
    python bench/peers.py --shapes minilm-l6,bert-base --runs 5 --json bench/results/peers.json
    python bench/peers.py --lengths lengths.json --set dl19   whole requests of real lengths

Needs build/release/crank and a Python with torch, transformers, sentence-transformers, onnx and onnxruntime. All
engines load the same folder (crank synth), start from the same texts and end at scores, tokenising included; they take
turns, run by run, so that a slow minute of the machine slows all of them. crank is called through libcrank.so in this process, warm as the peers are; "crank int8 process" is the program from its
start to its last printed score. Scores of every engine are compared with sentence-transformers' fp32 before anything is
timed; an engine that is wrong is not timed. The median of the runs counts; the ratio is run by run.
"""
import argparse
import ctypes
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
TOLERANCE = {"crank f32": 1e-4, "crank bf16": 2e-2, "crank int8": 5e-2, "st fp32": 0, "st bf16": 2e-2,
             "ort fp32": 1e-4, "ort int8": 1e-1, "crank int8 process": 5e-2}


def make_texts(lengths, folder, seed=1):
    """One query and a document for each length: [CLS] query [SEP] document [SEP] has exactly that many tokens."""
    with open(os.path.join(folder, "vocab.txt")) as f:
        words = [w for w in f.read().split("\n")[5:] if w]
    rng = random.Random(seed)
    query_words = min(12, (min(lengths) - 3) // 2)
    query = " ".join(rng.choice(words) for _ in range(query_words))
    return query, [" ".join(rng.choice(words) for _ in range(n - 3 - query_words)) for n in lengths]


def convert(binary, folder, dtype, work):
    path = os.path.join(work, f"{dtype}.crank")
    subprocess.run([binary, "convert", folder, "-o", path, "--dtype", dtype], check=True, capture_output=True)
    return path


class CrankProcess:
    """The program from its start: open the converted file, read, score, print."""

    def __init__(self, binary, folder, dtype, threads, work):
        path = convert(binary, folder, dtype, work)
        self.command = [binary, "score", "-m", path, "--json", "--threads", str(threads), "--progress", "never"]

    def score(self, query, documents):
        text = "".join(json.dumps({"query": query, "document": d}) + "\n" for d in documents)
        start = time.perf_counter()
        done = subprocess.run(self.command + ["-"], input=text, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
        return [json.loads(line)["score"] for line in done.stdout.splitlines()], seconds


class Text(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("bytes", ctypes.c_size_t)]


class Pair(ctypes.Structure):
    _fields_ = [("query", Text), ("document", Text)]


class SessionOptions(ctypes.Structure):  # the first fields of crank_session_options; size says how many
    _fields_ = [("size", ctypes.c_size_t), ("n_threads", ctypes.c_int)]


class Crank:
    """libcrank.so in this process. The model and the session live as long as the process."""

    def __init__(self, binary, folder, dtype, threads, work):
        self.lib = ctypes.CDLL(os.path.join(os.path.dirname(binary), "libcrank.so"))
        self.model, self.session = ctypes.c_void_p(), ctypes.c_void_p()
        path = convert(binary, folder, dtype, work)
        options = SessionOptions(ctypes.sizeof(SessionOptions), threads)
        self.check(self.lib.crank_model_open(ctypes.byref(self.model), path.encode(), None, None))
        self.check(self.lib.crank_session_open(ctypes.byref(self.session), self.model, ctypes.byref(options), None))

    @staticmethod
    def check(status):
        if status != 0:
            raise RuntimeError(f"libcrank: status {status}")

    def score(self, query, documents):
        start = time.perf_counter()
        pairs, scores = (Pair * len(documents))(), (ctypes.c_float * len(documents))()
        query = query.encode()
        for pair, document in zip(pairs, documents):
            document = document.encode()
            pair.query, pair.document = Text(query, len(query)), Text(document, len(document))
        self.check(self.lib.crank_score(self.session, pairs, ctypes.c_size_t(len(documents)), None, None, scores, None,
                                        None))
        return list(scores), time.perf_counter() - start


class SentenceTransformers:
    def __init__(self, folder, dtype):
        import torch
        from sentence_transformers import CrossEncoder
        kind = torch.bfloat16 if dtype == "bf16" else torch.float32
        self.model = CrossEncoder(folder, device="cpu", max_length=512, model_kwargs={"dtype": kind})

    def score(self, query, documents):
        start = time.perf_counter()
        scores = self.model.predict([(query, d) for d in documents], batch_size=32, show_progress_bar=False)
        return [float(s) for s in scores], time.perf_counter() - start


class OnnxRuntime:
    def __init__(self, folder, dtype, threads, work):
        import onnxruntime as ort
        import torch
        from transformers import AutoTokenizer, BertForSequenceClassification
        path = os.path.join(work, "model.onnx")
        model = BertForSequenceClassification.from_pretrained(folder).eval()
        model.set_attn_implementation("eager")

        class Logits(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = model

            def forward(self, input_ids, attention_mask, token_type_ids):
                return self.inner(input_ids=input_ids, attention_mask=attention_mask,
                                  token_type_ids=token_type_ids).logits

        names = ["input_ids", "attention_mask", "token_type_ids"]
        x = torch.ones((2, 16), dtype=torch.long)
        with torch.no_grad():
            torch.onnx.export(Logits(), (x, x, x * 0), path, dynamo=False, opset_version=17, input_names=names,
                              output_names=["logits"], dynamic_axes={n: {0: "rows", 1: "tokens"} for n in names})
        if dtype == "int8":
            from onnxruntime.quantization import QuantType, quantize_dynamic
            from onnxruntime.quantization.shape_inference import quant_pre_process
            prepared = os.path.join(work, "prepared.onnx")
            quant_pre_process(path, prepared, skip_symbolic_shape=True)
            path = os.path.join(work, "int8.onnx")
            quantize_dynamic(prepared, path, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def score(self, query, documents):
        import numpy as np
        start = time.perf_counter()
        order = sorted(range(len(documents)), key=lambda i: -len(documents[i]))
        out = np.empty(len(documents), np.float32)
        for at in range(0, len(order), 32):
            rows = order[at:at + 32]
            feed = self.tokenizer([query] * len(rows), [documents[i] for i in rows], padding=True, truncation=True,
                                  max_length=512, return_tensors="np")
            feed = {k: v.astype(np.int64) for k, v in feed.items()}
            out[rows] = self.session.run(["logits"], feed)[0][:, 0]
        scores = 1 / (1 + np.exp(-out))
        return [float(s) for s in scores], time.perf_counter() - start


def read_lengths(args):
    if not args.lengths:
        return [args.tokens] * args.pairs
    with open(args.lengths) as f:
        requests = json.load(f)["sets"][args.set]["requests"]
    lengths = [min(512, query + d + 3) for query, documents in requests for d in documents][:args.pairs]
    return [max(8, n) for n in lengths]


def measure(args, shape, lengths, work):
    folder = os.path.join(work, shape)
    subprocess.run([args.crank, "synth", shape, "-o", folder], check=True, capture_output=True)
    query, documents = make_texts(lengths, folder)
    engines = {"st fp32": SentenceTransformers(folder, "fp32")}
    for dtype in ("f32", "bf16", "int8"):
        engines[f"crank {dtype}"] = Crank(args.crank, folder, dtype, args.threads, work)
    engines["crank int8 process"] = CrankProcess(args.crank, folder, "int8", args.threads, work)
    engines["st bf16"] = SentenceTransformers(folder, "bf16")
    for dtype in ("fp32", "int8"):
        engines[f"ort {dtype}"] = OnnxRuntime(folder, dtype, args.threads, work)
    expected, _ = engines["st fp32"].score(query, documents)
    for name in list(engines):
        scores, _ = engines[name].score(query, documents)
        worst = max(abs(a - b) for a, b in zip(scores, expected))
        if len(scores) != len(expected) or not worst <= TOLERANCE[name] + 1e-5:
            print(f"{shape}: {name} is not timed: scores are off by {worst:.3g}", file=sys.stderr)
            del engines[name]
    times = {name: [] for name in engines}
    for _ in range(args.runs):
        for name, engine in engines.items():
            times[name].append(engine.score(query, documents)[1])
    rows = []
    for name, seconds in times.items():
        median = statistics.median(seconds)
        row = {"shape": shape, "engine": name, "pairs": len(documents), "tokens": sum(lengths),
               "threads": args.threads, "pairs_per_s": round(len(documents) / median, 2),
               "seconds": [round(s, 4) for s in seconds], "load_1min": round(os.getloadavg()[0], 2)}
        for other in times:
            if name.startswith("crank") and not other.startswith("crank"):
                ratio = statistics.median(b / a for a, b in zip(seconds, times[other]))
                row[f"times {other}"] = round(ratio, 2)
        rows.append(row)
        print(f"{shape:12} {name:18} {row['pairs_per_s']:9.1f} pairs/s  " +
              "  ".join(f"{k[6:]} x{v}" for k, v in row.items() if k.startswith("times")), flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crank", default=os.path.join(ROOT, "build/release/crank"),
                        help="the program; libcrank.so lies beside it")
    parser.add_argument("--shapes", default="minilm-l6")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--lengths", help="lengths.json: whole requests of real lengths")
    parser.add_argument("--set", default="dl19")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", help="write the rows there as well")
    args = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS=str(args.threads), RAYON_NUM_THREADS=str(args.threads), HF_HUB_OFFLINE="1",
                      TOKENIZERS_PARALLELISM="true", TQDM_DISABLE="1")
    import logging
    import warnings
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    import torch
    torch.set_num_threads(args.threads)
    lengths = read_lengths(args)
    rows = []
    for shape in args.shapes.split(","):
        with tempfile.TemporaryDirectory() as work:
            rows += measure(args, shape, lengths, work)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(rows, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
