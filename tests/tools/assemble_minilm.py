#!/usr/bin/env python3
"""A BERT cross-encoder of real size for tests: the trained all-MiniLM-L6-v2 encoder under a given head.

    assemble_minilm.py ENCODER_DIR HEAD.safetensors OUT_DIR

ENCODER_DIR is what ./run setup fetches (config.json, model.safetensors; checked against tests/minilm.sha256).
Tensors get the prefix 'bert.', the head's are added as they are. OUT_DIR appears whole or not at all."""
import hashlib, json, os, struct, sys


def read(path):
    """({name: (dtype, shape, begin, end)}, data)"""
    with open(path, 'rb') as f:
        blob = f.read()
    (size,) = struct.unpack('<Q', blob[:8])
    header = json.loads(blob[8:8 + size])
    header.pop('__metadata__', None)
    return {n: (t['dtype'], t['shape'], *t['data_offsets']) for n, t in header.items()}, blob[8 + size:]


def main():
    encoder, head, out = sys.argv[1:]
    sums = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'minilm.sha256')
    with open(sums) as f:
        known = dict(reversed(line.split()) for line in f)
    for name in ('config.json', 'model.safetensors'):
        with open(os.path.join(encoder, name), 'rb') as f:
            if hashlib.sha256(f.read()).hexdigest() != known[name]:
                sys.exit(f'{encoder}/{name} is not the file of tests/minilm.sha256')
    parts = []
    for prefix, path in (('bert.', os.path.join(encoder, 'model.safetensors')), ('', head)):
        tensors, data = read(path)
        parts += [(prefix + n, dtype, shape, data[a:b]) for n, (dtype, shape, a, b) in tensors.items()]
    header, at = {}, 0
    for name, dtype, shape, data in parts:
        header[name] = {'dtype': dtype, 'shape': shape, 'data_offsets': [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with open(os.path.join(encoder, 'config.json')) as f:
        config = json.load(f)
    config.update(architectures=['BertForSequenceClassification'], id2label={'0': 'LABEL_0'},
                  label2id={'LABEL_0': 0})
    part = f'{out}.{os.getpid()}.part'
    os.makedirs(part)
    with open(os.path.join(part, 'model.safetensors'), 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text)
        for *_, data in parts:
            f.write(data)
    with open(os.path.join(part, 'config.json'), 'w') as f:
        json.dump(config, f, indent=2)
    for name in ('vocab.txt', 'tokenizer.json', 'tokenizer_config.json'):
        with open(os.path.join(encoder, name), 'rb') as a, open(os.path.join(part, name), 'wb') as b:
            b.write(a.read())
    try:
        os.rename(part, out)
    except OSError:  # another one was faster
        if not os.path.exists(os.path.join(out, 'config.json')):
            raise


main()
