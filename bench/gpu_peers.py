#!/usr/bin/env python3
"""PyTorch beside crank on one GPU: transformers in bf16, eager and torch.compile, and sentence-transformers.

    python bench/gpu_peers.py --crank build/release/crank --shapes minilm-l6,bert-base      (./run gpu calls it)

Two measures, the median of the runs, each of 100 equal pairs of exactly 128 tokens and of one pair:
  logits   token ids on the host to logits on the host, no tokenizer: what `crank bench table` measures
  scores   texts to scores, by sentence-transformers' CrossEncoder.predict, tokenizer included
All pairs have the same length, so no peer pays for padding. Before anything is timed, a peer's logits are
compared with those that `crank score --device ref` gives for the same texts; one that is wrong is not timed.
One JSON object a line."""
import argparse, json, os, statistics, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
os.environ.update(HF_HUB_OFFLINE='1', TRANSFORMERS_OFFLINE='1', TQDM_DISABLE='1', TOKENIZERS_PARALLELISM='true')
import torch
import transformers
transformers.logging.set_verbosity_error()


def timed(work, runs):
    """Median seconds; the device has finished at the end of each."""
    seconds = []
    for run in range(runs + 2):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if run >= 2:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(options, shape, work):
    folder = os.path.join(work, shape)
    subprocess.run([options.crank, 'synth', shape, '-o', folder], check=True, capture_output=True)
    with open(os.path.join(folder, 'vocab.txt')) as f:
        words = [w for w in f.read().split('\n')[5:] if w.isalpha()]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    query_words = min(12, (options.tokens - 3) // 2)
    query = ' '.join(words[i * 7 % len(words)] for i in range(query_words))
    documents = [' '.join(words[(i * 31 + d * 1009) % len(words)] for i in range(options.tokens - 3 - query_words))
                 for d in range(options.pairs)]
    pairs = [(query, d) for d in documents]
    batch = tokenizer([query] * len(documents), documents, return_tensors='pt', padding=True)
    lines = ''.join(json.dumps({'query': query, 'document': d}) + '\n' for d in documents[:2])
    done = subprocess.run([options.crank, 'score', '-m', folder, '--device', 'ref', '--json', '-'], input=lines,
                          capture_output=True, text=True, check=True)
    expected = [json.loads(line)['logit'] for line in done.stdout.splitlines()]
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16).to(device).eval()
    engines = [('torch eager bf16', model)]
    if not options.no_compile:
        engines.append(('torch.compile bf16', torch.compile(model, mode='reduce-overhead')))

    def logits(engine, rows):
        with torch.inference_mode():
            feed = {k: v[:rows].to(device, non_blocking=True) for k, v in batch.items()}
            return engine(**feed).logits.float().cpu()

    def put(engine, what, many, one):
        print(json.dumps({'model': shape, 'engine': engine, 'what': what, 'device': device, 'pairs': len(documents),
                          'tokens': batch['input_ids'].shape[1], 'ms_per_100': round(many * 1e5 / len(documents), 4),
                          'pair_us': round(one * 1e6, 1)}), flush=True)

    for name, engine in engines:
        try:
            found = logits(engine, len(documents))[:len(expected), 0].tolist()
            off = max(abs(a - b) for a, b in zip(found, expected))
            if not off <= 5e-2 * max(1.0, max(map(abs, expected))):
                print(f'gpu_peers: {shape} {name} is not timed: logits are off by {off:.3g}', file=sys.stderr)
                continue
            put(name, 'logits', timed(lambda: logits(engine, len(documents)), options.runs),
                timed(lambda: logits(engine, 1), options.runs))
        except Exception as error:  # a peer that does not run here is no reason to lose the others
            print(f'gpu_peers: {shape} {name}: {error}', file=sys.stderr)
    try:
        from sentence_transformers import CrossEncoder
        encoder = CrossEncoder(folder, device=device, max_length=512, model_kwargs={'dtype': torch.bfloat16})
        predict = lambda rows: encoder.predict(pairs[:rows], batch_size=128, show_progress_bar=False)
        put('sentence-transformers bf16', 'scores', timed(lambda: predict(len(pairs)), options.runs),
            timed(lambda: predict(1), options.runs))
    except Exception as error:
        print(f'gpu_peers: {shape} sentence-transformers: {error}', file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--crank', default=os.path.join(ROOT, 'build', 'release', 'crank'))
    parser.add_argument('--shapes', default='minilm-l6')
    parser.add_argument('--pairs', type=int, default=100)
    parser.add_argument('--tokens', type=int, default=128)
    parser.add_argument('--runs', type=int, default=11)
    parser.add_argument('--no-compile', action='store_true')
    options = parser.parse_args()
    for shape in options.shapes.split(','):
        with tempfile.TemporaryDirectory() as work:
            measure(options, shape, work)


main()
