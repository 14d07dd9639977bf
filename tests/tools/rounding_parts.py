#!/usr/bin/env python3
"""Which roundings to 16 bits a BERT model's logits pay for: a forward pass in f64 with f16 put in place by place.

    rounding_parts.py GOLDEN_DIR        (BERT; needs numpy) prints |logit - f64 golden|, maximum and rms

The places: weights of linears; tables of embeddings; the residual stream (after every norm and before it); the
inputs of linears; q, k, v, probabilities and contexts. kernels/cuda/README.md quotes it."""
import json
import math
import struct
import sys

import numpy as np

TYPES = {'F32': np.float32, 'F64': np.float64, 'I32': np.int32, 'F16': np.float16}
erf = np.vectorize(math.erf)


def load(path):
    with open(path, 'rb') as f:
        blob = f.read()
    (size,) = struct.unpack('<Q', blob[:8])
    header, data = json.loads(blob[8:8 + size]), blob[8 + size:]
    header.pop('__metadata__', None)
    return {name: np.frombuffer(data[slice(*t['data_offsets'])], TYPES[t['dtype']]).reshape(t['shape'])
            for name, t in header.items() if t['dtype'] in TYPES}


def f16(x):
    return x.astype(np.float16).astype(np.float64)


def f64(x):
    return x.astype(np.float64)


def forward(config, w, golden, places):
    """Logits [rows, labels]; places: which of weights, tables, stream, operands, attention are in f16."""
    weight, table, stream, operand, inner = (
        f16 if place in places else f64 for place in ('weights', 'tables', 'stream', 'operands', 'attention'))
    heads, width, epsilon = config['num_attention_heads'], config['hidden_size'], config['layer_norm_eps']

    def norm(x, name):
        d = x - x.mean(-1, keepdims=True)
        return d / np.sqrt((d * d).mean(-1, keepdims=True) + epsilon) * f64(w[name + '.weight']) + f64(w[name + '.bias'])

    def linear(x, name):
        return operand(x) @ weight(w[name + '.weight']).T + f64(w[name + '.bias'])

    logits = []
    for row, mask, types in zip(golden['input_ids'], golden['attention_mask'], golden['token_type_ids']):
        n, at = int(mask.sum()), 'bert.embeddings.'
        x = (table(w[at + 'word_embeddings.weight'])[row[:n]] + table(w[at + 'token_type_embeddings.weight'])[types[:n]] +
             table(w[at + 'position_embeddings.weight'])[:n])
        x = stream(norm(x, at + 'LayerNorm'))
        for layer in range(config['num_hidden_layers']):
            at = f'bert.encoder.layer.{layer}.'
            q, k, v = (inner(linear(x, at + 'attention.self.' + part)).reshape(n, heads, -1).transpose(1, 0, 2)
                       for part in ('query', 'key', 'value'))
            p = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
            p = np.exp(p - p.max(-1, keepdims=True))
            context = inner(((inner(p) @ v) / p.sum(-1, keepdims=True)).transpose(1, 0, 2).reshape(n, width))
            x = stream(norm(stream(linear(context, at + 'attention.output.dense') + x), at + 'attention.output.LayerNorm'))
            h = linear(x, at + 'intermediate.dense')
            h = h * 0.5 * (1 + erf(h / math.sqrt(2)))
            x = stream(norm(stream(linear(h, at + 'output.dense') + x), at + 'output.LayerNorm'))
        pooled = np.tanh(x[0] @ f64(w['bert.pooler.dense.weight']).T + f64(w['bert.pooler.dense.bias']))
        logits.append(pooled @ f64(w['classifier.weight']).T + f64(w['classifier.bias']))
    return np.array(logits)


def main():
    folder = sys.argv[1]
    w, golden = load(folder + '/model.safetensors'), load(folder + '/golden.safetensors')
    with open(folder + '/config.json') as f:
        config = json.load(f)
    expected = golden['logits_f64'].reshape(len(golden['input_ids']), -1)
    everything = {'weights', 'tables', 'stream', 'operands', 'attention'}
    for name, places in (('nothing', set()), ('weights', {'weights'}), ('weights and tables', {'weights', 'tables'}),
                         ('everything but weights and tables', everything - {'weights', 'tables'}),
                         ('everything', everything), ('everything but the residual stream', everything - {'stream'}),
                         ('stream', {'stream'}), ('operands', {'operands'}), ('attention', {'attention'})):
        off = np.abs(forward(config, w, golden, places) - expected)
        print(f'{name:36} max {off.max():.2e}  rms {np.sqrt((off ** 2).mean()):.2e}')


main()
