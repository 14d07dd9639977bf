#!/usr/bin/env python3
"""Predicted GPU times of whole models, from what the emulator counts: a roofline, not a measurement.

    build/release/crank bench ops --device emu --json --dtype f16 > one.jsonl
    build/release/crank bench ops --device emu --json --dtype f16 --pairs 32 > many.jsonl
    bench/predict.py one.jsonl many.jsonl

Adds the ops of a forward pass: embeddings; per layer QKV, attention, output + residual + norm, FFN in, FFN out +
residual + norm; a last layer of which only the head's row is made, folded; the head. one.jsonl: a pair of 128 tokens.
many.jsonl: a chunk of 32 such pairs; 100 pairs are 3.125 chunks. bench/roofline.h says what a kernel's time is made
of and from which figures of one H100 SXM."""
import json, sys

# width, FFN, heads, layers
MODELS = {'MiniLM-L6': (384, 1536, 12, 6), 'MiniLM-L12': (384, 1536, 12, 12), 'BERT-base': (768, 3072, 12, 12),
          'BERT-large': (1024, 4096, 16, 24)}


def load(path):
    """{(op, shape): predicted microseconds}"""
    with open(path) as f:
        rows = [json.loads(line) for line in f if line.startswith('{')]
    wrong = [r for r in rows if not r['correct']]
    if wrong:
        sys.exit(f"{path}: {wrong[0]['op']} {wrong[0]['shape']} is wrong")
    return {(r['op'], r['shape']): r['predicted_us'] for r in rows}


def total(ops, pairs, d, f, heads, layers):
    t, k = 128 * pairs, d // heads
    linear = lambda rows, n, m: ops['linear', f'T {rows} n {n} k {m}']
    attention = f'B {pairs} S 128 H {heads} K {k}'
    layer = (linear(t, 3 * d, d) + ops['attention', attention] + ops['linear_residual_norm', f'T {t} n {d} k {d}'] +
             linear(t, f, d) + ops['linear_residual_norm', f'T {t} n {d} k {f}'])
    # The last layer's linears have one row a pair: all of them are bound by the floor (3.3 us), the norms too.
    last = ops['attention_rows_folded', attention] + 5 * 3.3
    return ops['embed_norm', f'T {t} D {d}'] + (layers - 1) * layer + last + ops['head', f'T {pairs} n 1 k {d}']


def main():
    one, many = load(sys.argv[1]), load(sys.argv[2])
    print('| model | one pair of 128 tokens, us, predicted | 100 pairs, ms, predicted |')
    print('|---|---|---|')
    for name, shape in MODELS.items():
        print(f'| {name} | {total(one, 1, *shape):.0f} | {total(many, 32, *shape) * 3.125 / 1e3:.2f} |')


main()
