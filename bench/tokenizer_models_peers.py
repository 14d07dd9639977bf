#!/usr/bin/env python3
"""crank's Unigram and byte-level BPE beside Hugging Face `tokenizers`, one thread each, on the same texts.

    pip install tokenizers==0.23.3
    tokenizer_models_peers.py [--bench build/release/tokenizer_bench] [--texts FILE] [--rounds 7]

Models: the six small ones of tests/fixtures/tokenizer, and two of the size that people run, made here from the texts: a
Unigram vocabulary of 250,000 pieces (every substring of the words, by frequency, under the fixture's normaliser) and a
byte-level BPE of 50,000 entries (Hugging Face's trainer; as many as the texts give). Nothing is timed before both give
the same ids for every text. The peers take turns within a round; medians, and the ratio is the median over rounds. Hugging
Face keeps its word cache warm from round to round; crank has none. "open" is tokenizer_from_image alone.
"""
import argparse
import collections
import gzip
import json
import math
import os
import re
import statistics
import sys
import tempfile

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("RAYON_NUM_THREADS", "1")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from tokenizer_peers import Served, corpus, timed  # noqa: E402

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/fixtures/tokenizer")
SMALL = ["unigram/xlmr", "unigram/t5", "unigram/deberta", "unigram/bytefallback", "bpe/roberta", "bpe/modernbert"]


def fixture(name):
    with gzip.open(f"{FIXTURES}/{name}.json.gz", "rt", encoding="utf-8") as f:
        return json.load(f)


def unigram_250k(texts):
    words, pieces = collections.Counter(w for t in texts for w in t.split()), collections.Counter()
    for word, n in words.items():
        s = "\u2581" + word[:24]
        for i in range(len(s)):
            for j in range(i + 1, min(len(s), i + 12) + 1):
                pieces[s[i:j]] += n
        pieces[s] += n
    model = fixture("unigram/xlmr")
    special = [[t, 0.0] for t in ("<s>", "<pad>", "</s>", "<unk>")]
    for t in ("<s>", "<pad>", "</s>", "<unk>", "<mask>"):
        pieces.pop(t, None)
    room, total = 250000 - len(special) - 1, sum(pieces.values())
    chosen = list(dict.fromkeys([p for p in pieces if len(p) == 1] + [p for p, _ in pieces.most_common(room)]))[:room]
    vocab = special + [[p, math.log(pieces[p] / total)] for p in chosen]
    for i in range(len(vocab), 250000 - 1):  # few texts: fill up with pieces that nothing matches
        vocab.append([f"\u2581\u241f{i:x}\u241f" + "filler"[:i % 7], -30.0])
    model["model"]["vocab"] = vocab + [["<mask>", 0.0]]
    for token in model["added_tokens"]:
        if token["content"] == "<mask>":
            token["id"] = len(vocab)
    return model


def bpe_50k(texts):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=50000, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    t.train_from_iterator(texts, trainer)
    return json.loads(t.to_str())


def compare(name, model, texts, a):
    from tokenizers import Tokenizer
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokenizer.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(model, f, ensure_ascii=False)
        hf = Tokenizer.from_file(path)
        want = [e.ids for e in hf.encode_batch_fast(texts, add_special_tokens=False)]
        crank = Served([a.bench, folder, "TEXTS", "--serve"], texts)
        if crank.ids() != want:
            raise SystemExit(f"{name}: ids differ from Hugging Face's, nothing is timed")
        times = {"batch": [], "fast": [], "crank": [], "open": []}
        for i in range(a.rounds + 2):
            row = {"batch": timed(lambda: hf.encode_batch(texts, add_special_tokens=False)),
                   "fast": timed(lambda: hf.encode_batch_fast(texts, add_special_tokens=False)),
                   "crank": crank.seconds("texts"), "open": crank.seconds("open")}
            for k, t in row.items():
                if i >= 2:  # two rounds to warm up
                    times[k].append(t)
        crank.process.stdin.close()
        crank.process.wait()
    size = sum(len(t.encode()) for t in texts)
    speed = {k: size / statistics.median(v) / 1e6 for k, v in times.items()}
    ratio = {k: statistics.median(p / o for p, o in zip(times[k], times["crank"])) for k in ("batch", "fast")}
    print(f"{name:22} {len(model['model']['vocab']):7} {sum(map(len, want)):8} {speed['batch']:8.2f} {speed['fast']:8.2f} {speed['crank']:8.1f} "
          f"{ratio['batch']:7.1f}x {ratio['fast']:7.1f}x {statistics.median(times['open']) * 1e3:9.2f}", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--bench", default="build/release/tokenizer_bench")
    ap.add_argument("--texts")
    ap.add_argument("--rounds", type=int, default=7)
    ap.add_argument("--models", default="", help="only models whose name matches this expression")
    a = ap.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    texts = open(a.texts, encoding="utf-8").read().splitlines() if a.texts else corpus(3000)
    print(f"{len(texts)} texts, {sum(len(t.encode()) for t in texts)} bytes; {a.rounds} rounds, medians, one thread, load {os.getloadavg()[0]:.1f}")
    print(f"{'model':22} {'entries':>7} {'tokens':>8} {'HF MB/s':>8} {'HF fast':>8} {'crank':>8} {'over HF':>8} {'fast':>8} {'open ms':>9}")
    made = {"unigram 250k": lambda: unigram_250k(texts), "bpe 50k": lambda: bpe_50k(texts)}
    for name in SMALL + list(made):
        if re.search(a.models, name):
            compare(name, made[name]() if name in made else fixture(name), texts, a)


if __name__ == "__main__":
    main()
