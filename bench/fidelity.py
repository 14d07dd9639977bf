#!/usr/bin/env python3
"""What bf16 and int8 change in a ranking: Kendall's tau per query against fp32, and nDCG@10.

    python bench/fidelity.py MODEL --set DIR [--split test] [--queries 100] [--depth 100] [--markdown FILE]

MODEL is a Hugging Face folder, run as `crank rerank` runs it. DIR holds queries.SPLIT.tsv, corpus.jsonl.gz,
qrels.SPLIT.txt and a first stage, bm25.SPLIT.trec.gz. tau is tau-b (Kendall 1945) over the candidates of a query,
averaged over the queries; nDCG is crank eval's. Needs Python's standard library and build/release/crank.
"""
import argparse
import gzip
import os
import subprocess
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def read_run(path):
    scores = {}
    with open(path) as f:
        for line in f:
            qid, _, docid, _, score, _ = line.split()
            scores.setdefault(qid, {})[docid] = float(score)
    return scores


def sign(x):
    return (x > 0) - (x < 0)


def tau(a, b):
    ids = sorted(a)
    x, y = [a[i] for i in ids], [b[i] for i in ids]
    agree = pairs_x = pairs_y = 0
    for i in range(len(ids)):
        for j in range(i):
            sx, sy = sign(x[i] - x[j]), sign(y[i] - y[j])
            agree += sx * sy
            pairs_x += sx * sx
            pairs_y += sy * sy
    return agree / (pairs_x * pairs_y) ** 0.5 if pairs_x and pairs_y else 1.0


def first_queries(path, n, out):
    """The run's lines of its first n queries, and the ids of those."""
    seen = []
    with gzip.open(path, "rt") as f, open(out, "w") as to:
        for line in f:
            qid = line.split(None, 1)[0]
            if qid not in seen[-1:]:
                if len(seen) == n:
                    break
                seen.append(qid)
            to.write(line)
    return set(seen)


def ndcg(crank, qrels, run):
    text = subprocess.run([crank, "eval", qrels, run], check=True, capture_output=True, text=True).stdout
    for line in text.splitlines():
        fields = line.split()
        if fields and fields[0].lower().startswith("ndcg"):
            return float(fields[-1])
    raise SystemExit(f"crank eval printed no nDCG: {text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--set", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--crank", default=os.path.join(ROOT, "build/release/crank"))
    parser.add_argument("--markdown", help="append the rows there")
    args = parser.parse_args()
    path = lambda name: os.path.join(args.set, name)
    with tempfile.TemporaryDirectory() as work:
        first = os.path.join(work, "first.trec")
        queries = first_queries(path(f"bm25.{args.split}.trec.gz"), args.queries, first)
        qrels = os.path.join(work, "qrels")
        with open(path(f"qrels.{args.split}.txt")) as f, open(qrels, "w") as to:
            to.writelines(line for line in f if line.split(None, 1)[0] in queries)
        rows, runs = [], {}
        for dtype in ("f32", "bf16", "int8"):
            file, run = os.path.join(work, f"{dtype}.crank"), os.path.join(work, f"{dtype}.trec")
            subprocess.run([args.crank, "convert", args.model, "-o", file, "--dtype", dtype], check=True,
                           capture_output=True)
            subprocess.run([args.crank, "rerank", "-m", file, "--run", first, "--queries",
                            path(f"queries.{args.split}.tsv"), "--corpus", path("corpus.jsonl.gz"), "--depth",
                            str(args.depth), "--progress", "never", "-o", run], check=True)
            runs[dtype] = read_run(run)
            taus = [tau(runs["f32"][q], runs[dtype][q]) for q in runs["f32"]]
            gain = ndcg(args.crank, qrels, run)
            rows.append((dtype, sum(taus) / len(taus), min(taus), gain))
            name = f"{os.path.basename(os.path.normpath(args.set))}, {len(queries)} queries x {args.depth}"
            row = f"| {name} | {dtype} | {rows[-1][1]:.4f} | {rows[-1][2]:.3f} | {gain:.4f} | {gain - rows[0][3]:+.4f} |"
            print(row, flush=True)
            if args.markdown:
                with open(args.markdown, "a") as f:
                    f.write(row + "\n")


if __name__ == "__main__":
    main()
