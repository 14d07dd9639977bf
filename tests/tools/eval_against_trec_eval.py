#!/usr/bin/env python3
"""Random judgements and runs, evaluated by trec_eval (PyPI: pytrec-eval-terrier) and by crank eval.

    eval_against_trec_eval.py CRANK                  compares on fresh random cases; exit 1 on a difference
    eval_against_trec_eval.py --record DIR           writes the cases that tests/eval_test.c replays

The cases have graded and negative judgements, equal scores, scores that differ only beyond a
float, judged queries that the run lacks, queries without a relevant document, and unjudged queries.
"""
import gzip
import io
import json
import os
import random
import subprocess
import sys
import tempfile

try:
    import pytrec_eval
except ImportError:
    print("SKIPPED: pytrec-eval-terrier is not installed\n0 passed, 0 failed, 1 skipped")
    sys.exit(0)

NAMES = {"nDCG@10": "ndcg_cut_10", "MAP": "map", "R@10": "recall_10", "R@100": "recall_100"}


def make_case(seed):
    r = random.Random(seed)
    docids = [r.choice(["d", "D", "doc-", ""]) + str(i) for i in range(200)]
    qrels, run = {}, {}
    for q in range(r.randrange(1, 12)):
        qid = f"q{q}"
        judged = r.sample(docids, r.randrange(1, 60))
        grades = r.choice([[0], [0, 1], [0, 1, 2, 3], [-1, 0, 1, 2], [2, 3]])
        qrels[qid] = {d: r.choice(grades) for d in judged}
        if r.random() < 0.8:
            n = r.randrange(1, 160)
            levels = r.choice([1, 2, 5, 1000])
            run[qid] = {d: r.choice([1, -1]) * r.randrange(levels) / 7 + r.choice([0, 1e-12])
                        for d in r.sample(docids, n)}
    run["unjudged"] = {d: 1.0 for d in docids[:5]}
    return qrels, run


def opened(path):
    """A .gz without name and time: a second recording gives the same bytes."""
    return io.TextIOWrapper(gzip.GzipFile(filename="", mode="wb", fileobj=open(path, "wb"), mtime=0))


def write_case(qrels, run, folder):
    with opened(f"{folder}/qrels.txt.gz") as f:
        for q, docs in qrels.items():
            for d, g in docs.items():
                f.write(f"{q} 0 {d} {g}\n")
    with opened(f"{folder}/run.txt.gz") as f:
        for q, docs in run.items():
            for i, (d, s) in enumerate(docs.items()):
                f.write(f"{q}\tQ0 {d}  {i} {s!r} tag\n")


def expected(qrels, run, level):
    """Means over all judged queries, as trec_eval -c; MRR@10 is recip_rank of the first ten."""
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "map", "recall.10,100"},
                                               relevance_level=level)
    values = evaluator.evaluate(run)
    # recip_rank has no cut: below rank ten it is less than 1/10.
    rr = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}, relevance_level=level).evaluate(run)
    out = {}
    for name, key in NAMES.items():
        out[name] = sum(values.get(q, {}).get(key, 0.0) for q in qrels) / len(qrels)
    firsts = [rr.get(q, {}).get("recip_rank", 0.0) for q in qrels]
    out["MRR@10"] = sum(x for x in firsts if x > 0.0999) / len(qrels)
    return out


def main():
    if sys.argv[1] == "--record":
        out = sys.argv[2]
        for case in range(8):
            folder = f"{out}/{case:02d}"
            os.makedirs(folder, exist_ok=True)
            qrels, run = make_case(1000 + case)
            write_case(qrels, run, folder)
            with open(f"{folder}/expected.json", "w") as f:
                json.dump([dict(level=level, **expected(qrels, run, level)) for level in (1, 2)], f, indent=1)
                f.write("\n")
        return 0
    program, worst, n = sys.argv[1], 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(200):
            qrels, run = make_case(seed)
            write_case(qrels, run, folder)
            for level in (1, 2):
                got = json.loads(subprocess.run(
                    [program, "eval", "--json", "--level", str(level), f"{folder}/qrels.txt.gz", f"{folder}/run.txt.gz"],
                    check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
                for name, value in expected(qrels, run, level).items():
                    worst = max(worst, abs(got[name] - value))
                    n += 1
                    if abs(got[name] - value) > 1e-8:
                        print(f"seed {seed} level {level} {name}: crank {got[name]}, trec_eval {value}")
                        print("0 passed, 1 failed, 0 skipped")
                        return 1
    print(f"{n} figures equal trec_eval's; largest difference {worst:.2g}\n1 passed, 0 failed, 0 skipped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
