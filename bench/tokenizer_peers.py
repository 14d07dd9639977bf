#!/usr/bin/env python3
"""crank's tokenizer beside Hugging Face `tokenizers` and `nanotoken`, one thread each, on the same texts.

    pip install tokenizers==0.23.3 nanotoken==0.1.0
    tokenizer_peers.py --model FOLDER [--texts FILE] [--bench build/release/tokenizer_bench] [--rounds 11]

FOLDER holds the BERT tokenizer.json (./run setup leaves one in .cache/minilm). FILE: one text per line, the first is the
query; without it, English paragraphs are taken from Perl's manuals and the licences under /usr/share, cut into texts of
70 to 90 words. Nothing is timed before all three give the same ids for every text. The peers take turns within a round,
so that what disturbs one disturbs all; the table shows medians, and the ratio is the median over rounds.
"""
import argparse
import glob
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("RAYON_NUM_THREADS", "1")

QUERY = "how do i read a configuration file safely"


def corpus(n_texts):
    words = []
    files = sorted(glob.glob("/usr/share/perl/*/**/*.p[om]*", recursive=True)) + sorted(glob.glob("/usr/share/common-licenses/*"))
    for path in files:
        text = open(path, encoding="utf-8", errors="replace").read()
        for paragraph in re.split(r"\n\s*\n", text):
            if re.match(r"[A-Z][a-z]+ [a-z]", paragraph) and "$" not in paragraph:
                words += paragraph.split()
    random.seed(1)
    out, i = [QUERY], 0
    while i + 90 < len(words) and len(out) <= n_texts:
        n = random.randint(70, 90)
        out.append(" ".join(words[i:i + n]))
        i += n
    return out


class Served:
    """A program that times one round per line of its stdin: tokenizer_bench --serve, or nano_worker below."""

    def __init__(self, command, texts, **environment):
        self.file = tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8")
        self.file.write("\n".join(texts) + "\n")
        self.file.flush()
        command = [self.file.name if x == "TEXTS" else x for x in command]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **environment})
        self.n = len(texts)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ids(self):
        self.ask("ids")
        return [[int(x) for x in self.process.stdout.readline().split()] for _ in range(self.n)]

    def seconds(self, kind):
        self.ask(kind)
        return float(self.process.stdout.readline())


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def nano_worker(model, path):
    """nanotoken in a process of its own, because its cache outlives every setting made later."""
    import nanotoken
    texts = open(path, encoding="utf-8").read().splitlines()
    nano = nanotoken.Tokenizer.from_json(open(os.path.join(model, "tokenizer.json"), encoding="utf-8").read())
    for line in sys.stdin:
        if line.strip() == "ids":
            for ids in nano.encode_batch_list(texts, add_special_tokens=False):
                print(*ids)
            sys.stdout.flush()
            continue
        if line.strip() == "fresh":
            nano.clear_cache()
        print(timed(lambda: nano.encode_batch(texts, add_special_tokens=False)), flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True)
    ap.add_argument("--texts")
    ap.add_argument("--bench", default="build/release/tokenizer_bench")
    ap.add_argument("--rounds", type=int, default=11)
    a = ap.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from tokenizers import Tokenizer

    texts = open(a.texts, encoding="utf-8").read().splitlines() if a.texts else corpus(3000)
    few = texts[:101]
    hf = Tokenizer.from_file(os.path.join(a.model, "tokenizer.json"))
    hf.no_padding()
    hf.no_truncation()
    want = [e.ids for e in hf.encode_batch(texts, add_special_tokens=False)]
    ours = [a.bench, a.model, "TEXTS", "--serve"]
    worker = [sys.executable, __file__, "--nano-worker", a.model, "TEXTS"]
    crank, crank_few = Served(ours, texts), Served(ours, few)
    nano, nano_off = Served(worker, texts), Served(worker, texts, NANOTOKEN_CACHE_ENTRIES="0")
    for name, served in (("crank", crank), ("nanotoken", nano), ("nanotoken without cache", nano_off)):
        if served.ids() != want:
            raise SystemExit(f"{name}: ids differ from Hugging Face's, nothing is timed")

    pairs = [(few[0], d) for d in few[1:]]
    pair_hf = Tokenizer.from_file(os.path.join(a.model, "tokenizer.json"))
    pair_hf.no_padding()
    pair_hf.enable_truncation(512)
    size, small = sum(len(t.encode()) for t in texts), sum(len(t.encode()) for t in few)
    rows = {
        "100 pairs, HF encode_batch": (len(pairs), small, lambda: timed(lambda: pair_hf.encode_batch(pairs))),
        "100 pairs, HF encode_batch_fast": (len(pairs), small, lambda: timed(lambda: pair_hf.encode_batch_fast(pairs))),
        "100 pairs, crank": (len(pairs), small, lambda: crank_few.seconds("pairs")),
        "texts, HF encode_batch_fast": (len(texts), size, lambda: timed(lambda: hf.encode_batch_fast(texts, add_special_tokens=False))),
        "texts, nanotoken, no cache": (len(texts), size, lambda: nano_off.seconds("texts")),
        "texts, nanotoken, cache emptied": (len(texts), size, lambda: nano.seconds("fresh")),
        "texts, nanotoken, cache warm": (len(texts), size, lambda: nano.seconds("texts")),
        "texts, crank (has no cache)": (len(texts), size, lambda: crank.seconds("texts")),
    }
    times = {name: [] for name in rows}
    for i in range(a.rounds + 2):
        for name, (_, _, call) in rows.items():
            t = call()
            if i >= 2:  # two rounds to warm up
                times[name].append(t)
    print(f"{len(texts)} texts, {size} bytes, {sum(map(len, want))} tokens; {a.rounds} rounds, medians, one thread, load {os.getloadavg()[0]:.1f}")
    for name, (n, bytes_, _) in rows.items():
        t = statistics.median(times[name])
        print(f"{name:34} {t * 1e3:10.3f} ms {n / t:12.0f} /s {bytes_ / t / 1e6:8.1f} MB/s")
    for what, peer, our, target in (
            ("HF encode_batch, 100 pairs", "100 pairs, HF encode_batch", "100 pairs, crank", 10),
            ("nanotoken without its cache", "texts, nanotoken, no cache", "texts, crank (has no cache)", 1.2),
            ("nanotoken, cache emptied", "texts, nanotoken, cache emptied", "texts, crank (has no cache)", None),
            ("nanotoken, cache warm", "texts, nanotoken, cache warm", "texts, crank (has no cache)", None)):
        ratio = statistics.median(p / o for p, o in zip(times[peer], times[our]))
        print(f"crank over {what}: {ratio:.2f}x" + (f" (target {target}x)" if target else ""))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--nano-worker"]:
        nano_worker(*sys.argv[2:])
    else:
        main()
