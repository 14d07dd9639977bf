#!/usr/bin/env python3
"""crank tokenize against the `tokenizers` package on random texts, over tokenizer.json files with odd options.

    python tokenizers_against_hf.py CRANK [--texts N] [--seed S] [--only NAME] [--keep DIR]

The bases are tests/fixtures/tokenizer (and a WordPiece vocabulary made here); each variant changes something in one.
Prints a line for each variant that differs or is refused, and the first text that shows it; exit code 1 when an id
differs. A refusal is no failure: crank says which field it does not read.
"""
import argparse
import copy
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "..", "fixtures", "tokenizer")
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("crank")
parser.add_argument("--texts", type=int, default=2000)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--only")
parser.add_argument("--keep", metavar="DIR", help="write every variant's tokenizer.json there")
args = parser.parse_args()

# ---- texts ----

WORDS = ("the of and Straße naïve café İstanbul ǅ ﬁnance Ａｂｃ １２３ 北京大学 東京都 서울 한국어 ไทย हिन्दी العربية "
         "don't we'll I'M it'S 'S x'll 12,000.50 e-mail foo_bar C++ https://a.b/c?d=e&f --- ... !!! ?! «q» „z“ "
         "[SEP] [CLS] <s> </s> <mask> [MASK] <pad> [UNK] <extra_id_0> [Q] [D] TOK tok to ke ns ZZ zz").split()
RANGES = [(0x20, 0x7f), (0x20, 0x7f), (0x80, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700), (0x900, 0xe00),
          (0x1e00, 0x2100), (0x2000, 0x2070), (0x2100, 0x2800), (0x3000, 0x3100), (0x4e00, 0x5000), (0xac00, 0xad00),
          (0xf900, 0xfb50), (0xfb50, 0xfe00), (0xfe00, 0x10000), (0x10000, 0x10200), (0x1d400, 0x1d800),
          (0x1f1e6, 0x1f680), (0x20000, 0x20100), (0xe0000, 0xe0100), (0, 0x20)]
SPACES = [" ", " ", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u200b", "", "    ", "\u0085", "▁", "\0"]


def random_char(r):
    low, high = r.choice(RANGES)
    c = r.randrange(low, high)
    return chr(c) if not 0xd800 <= c < 0xe000 else " "


def random_text(r):
    parts = []
    for _ in range(r.choice([0, 1, 1, 2, 3, 5, 8, 13])):
        kind = r.random()
        if kind < 0.5:
            word = r.choice(WORDS)
            word = r.choice([word, word, word.upper(), word.lower(), word + r.choice(".,;!?'\"")])
        elif kind < 0.8:
            word = "".join(random_char(r) for _ in range(r.randrange(1, 6)))
        else:
            word = "".join(r.choice("abcdeinorstu") for _ in range(r.randrange(1, 12)))
        parts.append(word)
        parts.append(r.choice(SPACES))
    if parts and r.random() < 0.7:
        parts.pop()
    return r.choice(["", "", "", " "]) + "".join(parts)


# ---- bases ----

def fixture(name):
    with gzip.open(os.path.join(FIXTURES, name + ".json.gz"), "rb") as f:
        return json.load(f)


def wordpiece():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    seen = set(pieces)
    letters = [chr(c) for c in list(range(0x21, 0x7f)) + list(range(0xc0, 0x180)) + list(range(0x3b1, 0x3ca))
               + list(range(0x4e00, 0x4e20)) + list(range(0x430, 0x450))]
    words = [w for w in fixture("bpe/roberta")["model"]["vocab"] if w.isascii() and w.isalpha() and len(w) > 1]
    for piece in letters + words + [w.lower() for w in WORDS] + WORDS + ["naive", "cafe", "strasse", "istanbul"]:
        for form in (piece, "##" + piece):
            if form not in seen:
                seen.add(form)
                pieces.append(form)
    special = lambda i: {"id": i, "special": True, "content": pieces[i], "single_word": False, "lstrip": False,
                         "rstrip": False, "normalized": False}
    token = lambda i, t: {"SpecialToken": {"id": pieces[i], "type_id": t}}
    text = lambda s, t: {"Sequence": {"id": s, "type_id": t}}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [special(i) for i in range(5)],
            "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                           "strip_accents": None, "lowercase": True},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "TemplateProcessing",
                               "single": [token(2, 0), text("A", 0), token(3, 0)],
                               "pair": [token(2, 0), text("A", 0), token(3, 0), text("B", 1), token(3, 1)],
                               "special_tokens": {pieces[i]: {"id": pieces[i], "ids": [i], "tokens": [pieces[i]]}
                                                  for i in (2, 3)}},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": {p: i for i, p in enumerate(pieces)}}}


BASES = {"wordpiece": wordpiece, **{n.split("/")[1]: (lambda n=n: fixture(n)) for n in (
    "bpe/roberta", "bpe/modernbert", "unigram/t5", "unigram/xlmr", "unigram/deberta", "unigram/bytefallback")}}


# ---- variants ----

def put(*path, value):
    def change(d):
        for key in path[:-1]:
            d = d[key]
        d[path[-1]] = value
    return change


def added(content, **flags):
    def change(d):
        vocab = d["model"]["vocab"]
        n = len(vocab) + sum(t["id"] >= len(vocab) for t in d["added_tokens"])
        top = max([n - 1] + [t["id"] for t in d["added_tokens"]])
        known = vocab if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}
        token = {"id": known.get(content, top + 1), "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": False}
        d["added_tokens"].append({**token, **flags})
    return change


def normalizers(*list_):
    return put("normalizer", value={"type": "Sequence", "normalizers": list(list_)})


def before(*list_):
    """Pre-tokenizers in front of the base's."""
    def change(d):
        d["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": list(list_) + [d["pre_tokenizer"]]}
    return change


def pre(*list_):
    return put("pre_tokenizer", value=list_[0] if len(list_) == 1 else {"type": "Sequence", "pretokenizers": list(list_)})


def metaspace(scheme, split=True):
    value = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
    return pre(value)


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def template(single, pair, ids):
    """Items "A:0" are sequences, others special tokens."""
    def item(text):
        name, kind = text.rsplit(":", 1)
        key = "Sequence" if name in "AB" else "SpecialToken"
        return {key: {"id": name, "type_id": int(kind)}}

    def change(d):
        d["post_processor"] = {"type": "TemplateProcessing", "single": [item(i) for i in single.split()],
                               "pair": [item(i) for i in pair.split()],
                               "special_tokens": {k: {"id": k, "ids": v, "tokens": ["x"] * len(v)}
                                                  for k, v in ids.items()}}
    return change


def both(*changes):
    def change(d):
        for c in changes:
            c(d)
    return change


GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN = GPT4.replace("{1,3}", "")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
            r"\s*[\r\n]+|\s+(?!\S)|\s+")
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
VARIANTS = [
    *[(base, "as-it-is", lambda d: None) for base in BASES],
    ("wordpiece", "cased", put("normalizer", "lowercase", value=False)),
    ("wordpiece", "cased-strip", both(put("normalizer", "lowercase", value=False),
                                      put("normalizer", "strip_accents", value=True))),
    ("wordpiece", "lower-keep-accents", put("normalizer", "strip_accents", value=False)),
    ("wordpiece", "lower-strip", put("normalizer", "strip_accents", value=True)),
    ("wordpiece", "no-chinese", put("normalizer", "handle_chinese_chars", value=False)),
    ("wordpiece", "no-clean", put("normalizer", "clean_text", value=False)),
    ("wordpiece", "nothing", both(*[put("normalizer", k, value=False) for k in
                                    ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")])),
    ("wordpiece", "short-words", put("model", "max_input_chars_per_word", value=5)),
    ("wordpiece", "other-prefix", put("model", "continuing_subword_prefix", value="")),
    ("wordpiece", "whitespace", pre({"type": "Whitespace"})),
    ("wordpiece", "whitespace-split", pre({"type": "WhitespaceSplit"})),
    ("wordpiece", "digits", before({"type": "Digits", "individual_digits": True})),
    ("wordpiece", "digits-together", before({"type": "Digits", "individual_digits": False})),
    ("wordpiece", "punctuation", pre({"type": "Whitespace"}, {"type": "Punctuation", "behavior": "Isolated"})),
    ("wordpiece", "nfkc-lower", normalizers({"type": "NFKC"}, {"type": "Lowercase"})),
    ("wordpiece", "nfd-strip-accents", normalizers({"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"})),
    ("wordpiece", "nfkd", normalizers({"type": "NFKD"}, {"type": "StripAccents"})),
    ("wordpiece", "nfc", normalizers({"type": "NFC"})),
    ("wordpiece", "no-normalizer", put("normalizer", value=None)),
    ("wordpiece", "prepend", normalizers({"type": "Prepend", "prepend": "a"}, {"type": "Lowercase"})),
    ("wordpiece", "replace", normalizers({"type": "Replace", "pattern": {"String": "the"}, "content": "of"},
                                         {"type": "Replace", "pattern": {"Regex": "[0-9]+"}, "content": "9"},
                                         {"type": "Lowercase"})),
    ("wordpiece", "strip-left", normalizers({"type": "Strip", "strip_left": True, "strip_right": False})),
    ("wordpiece", "nmt", normalizers({"type": "Nmt"}, {"type": "Lowercase"})),
    ("wordpiece", "truncation-and-padding", both(
        put("truncation", value={"max_length": 7, "strategy": "OnlyFirst", "stride": 2, "direction": "Left"}),
        put("padding", value={"strategy": {"Fixed": 99}, "direction": "Left", "pad_to_multiple_of": 8, "pad_id": 0,
                              "pad_type_id": 1, "pad_token": "[PAD]"}))),
    ("wordpiece", "bert-processing", put("post_processor", value={"type": "BertProcessing", "sep": ["[SEP]", 3],
                                                                  "cls": ["[CLS]", 2]})),
    ("wordpiece", "no-post-processor", put("post_processor", value=None)),
    ("wordpiece", "odd-template", template("A:0 [SEP]:5", "[CLS]:0 B:1 [SEP]:1 A:3 X:2", {"[SEP]": [3], "[CLS]": [2],
                                                                                         "X": [4, 3, 2]})),
    ("wordpiece", "template-types", template("[CLS]:1 A:1 [SEP]:1", "[CLS]:0 A:0 [SEP]:0 [SEP]:0 B:0 [SEP]:1",
                                             {"[SEP]": [3], "[CLS]": [2]})),
    ("roberta", "prefix-space", put("pre_tokenizer", "add_prefix_space", value=True)),
    ("roberta", "no-regex", put("pre_tokenizer", "use_regex", value=False)),
    ("roberta", "no-trim", both(put("pre_tokenizer", "trim_offsets", value=False),
                                put("post_processor", "trim_offsets", value=False))),
    ("roberta", "ignore-merges", put("model", "ignore_merges", value=True)),
    ("roberta", "dropout-0", put("model", "dropout", value=0.0)),
    ("roberta", "nfkc", put("normalizer", value={"type": "NFKC"})),
    ("roberta", "nfd-lower", normalizers({"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"})),
    ("roberta", "gpt2-split", pre(split({"Regex": GPT2}, "Isolated"), BYTES)),
    ("roberta", "gpt4-split", pre(split({"Regex": GPT4}, "Isolated"), BYTES)),
    ("roberta", "gpt4-removed-invert", pre(split({"Regex": GPT4}, "Removed", True), BYTES)),
    ("roberta", "split-removed", pre(split({"Regex": r"\s+"}, "Removed"), BYTES)),
    ("roberta", "split-previous", pre(split({"String": " "}, "MergedWithPrevious"), BYTES)),
    ("roberta", "split-next", pre(split({"String": " "}, "MergedWithNext"), BYTES)),
    ("roberta", "split-contiguous", pre(split({"Regex": r"[\p{P}\s]"}, "Contiguous"), BYTES)),
    *[("roberta", f"split-{name}", pre(split({"Regex": expression}, behavior), BYTES)) for name, expression, behavior in (
        ("qwen", QWEN, "Isolated"), ("llama3", GPT4, "Isolated"), ("cl100k", CL100K, "Isolated"), ("o200k", O200K, "Isolated"),
        ("deepseek", DEEPSEEK, "Isolated"), ("word", r"\w+|[^\w\s]+", "Isolated"), ("no-word", r"\W+", "Removed"),
        ("digit", r"\d", "Isolated"), ("no-digit", r"\D+", "Contiguous"),
        ("names", r"\p{Uppercase_Letter}+|\p{^other letter}|\P{Lo}", "MergedWithNext"),
        ("bracket", r"[^\p{L}\p{M}\P{S}x-z]+|[\D\P{Nl}]", "Isolated"), ("no-space", r"[^\S\n]+", "Isolated"))],
    *[("roberta", f"split-{c}", pre(split({"Regex": r"\p{%s}+" % c}, "Isolated"), BYTES)) for c in (
        "L LC Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp C Cc Cf Co Cn").split()],
    ("roberta", "digits", before({"type": "Digits", "individual_digits": True})),
    ("roberta", "sequence-post", lambda d: d.__setitem__("post_processor", {
        "type": "Sequence", "processors": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False,
                                            "use_regex": True}, d["post_processor"]]})),
    ("modernbert", "prefix-space", put("pre_tokenizer", "add_prefix_space", value=True)),
    ("modernbert", "no-normalizer", put("normalizer", value=None)),
    *[("t5", f"metaspace-{s}{'' if p else '-whole'}", metaspace(s, p))
      for s in ("always", "never", "first") for p in (True, False)],
    *[("xlmr", f"metaspace-{s}", metaspace(s)) for s in ("always", "never", "first")],
    ("t5", "old-metaspace", pre({"type": "Metaspace", "replacement": "▁", "add_prefix_space": True})),
    ("t5", "old-metaspace-no-prefix", pre({"type": "Metaspace", "replacement": "▁", "add_prefix_space": False})),
    ("t5", "whitespace-split-metaspace", pre({"type": "WhitespaceSplit"},
                                             {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"})),
    ("t5", "strip-replace", lambda d: d.__setitem__("normalizer", {"type": "Sequence", "normalizers": [
        d["normalizer"], {"type": "Strip", "strip_left": False, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]})),
    ("t5", "nmt-nfkc", normalizers({"type": "Nmt"}, {"type": "NFKC"},
                                   {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})),
    ("t5", "lowercase", lambda d: d.__setitem__("normalizer", {"type": "Sequence", "normalizers": [
        {"type": "Lowercase"}, d["normalizer"]]})),
    ("t5", "prepend-no-pre", both(put("normalizer", value={"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}),
        put("pre_tokenizer", value=None))),
    ("t5", "no-normalizer", put("normalizer", value=None)),
    ("deberta", "punctuation", before({"type": "Punctuation", "behavior": "Isolated"})),
    ("deberta", "digits", before({"type": "Digits", "individual_digits": True})),
    ("bytefallback", "off", put("model", "byte_fallback", value=False)),
    ("bytefallback", "always", both(metaspace("always"))),
    ("bytefallback", "no-normalizer", put("normalizer", value=None)),
]
for base in ("wordpiece", "roberta", "modernbert", "t5", "xlmr", "deberta", "bytefallback"):
    VARIANTS += [
        (base, "added-plain", added("TOK")),
        (base, "added-normalized", added("Tok", normalized=True)),
        (base, "added-lstrip", added("TOK", lstrip=True)),
        (base, "added-rstrip", added("TOK", rstrip=True)),
        (base, "added-both-strips", added("to", lstrip=True, rstrip=True, normalized=True)),
        (base, "added-single-word", added("to", single_word=True)),
        (base, "added-single-word-normalized", added("ZZ", single_word=True, normalized=True)),
        (base, "added-special", added("[Q]", special=True)),
        (base, "added-special-space", added("[Q] ", special=True)),
        (base, "added-overlap", both(added("to"), added("tok"), added("oke", normalized=True))),
        (base, "added-accent", both(added("Straße", normalized=True), added("é", lstrip=True))),
        (base, "added-cjk", both(added("北京"), added("東", normalized=True))),
    ]


# ---- comparing ----

def run(folder, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run([args.crank, "tokenize", "-m", folder, "-"], input=text.encode(), capture_output=True)
    if done.returncode not in (0, 1):
        return None, done.stderr.decode(errors="replace").strip()
    return [json.loads(line) for line in done.stdout.decode().splitlines()], ""


def compare(folder, d, texts):
    path = os.path.join(folder, "tokenizer.json")
    with open(path, "w") as f:
        json.dump(d, f, ensure_ascii=False)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast"}, f)
    try:
        theirs = Tokenizer.from_file(path)
    except Exception as problem:
        return f"tokenizers itself refuses: {str(problem)[:100]}", 0
    theirs.no_truncation()
    theirs.no_padding()
    lines = [{"text": t} for t in texts] + [{"query": texts[i - 1], "document": texts[i]} for i in range(0, len(texts), 4)]
    ours, message = run(folder, lines)
    if ours is None:
        return f"refused: {message}", 0
    different, first = 0, ""
    for line, found in zip(lines, ours):
        e = theirs.encode(line["text"]) if "text" in line else theirs.encode(line["query"], line["document"])
        if found.get("ids") != e.ids or found.get("type_ids") != e.type_ids:
            different += 1
            if not first or len(json.dumps(line)) < len(first[0]):
                first = (json.dumps(line), f"{json.dumps(line)}: expected {e.ids} {e.tokens}, found {found}")
    return (f"{different} of {len(lines)} differ, e.g. {first[1][:700]}" if different else ""), different


def main():
    r = random.Random(args.seed)
    texts = [random_text(r) for _ in range(args.texts)]
    failed = refused = 0
    made = {name: make() for name, make in BASES.items()}
    for base, name, change in VARIANTS:
        if args.only and args.only not in f"{base}/{name}":
            continue
        d = copy.deepcopy(made[base])
        change(d)
        folder = os.path.join(args.keep, f"{base}-{name}") if args.keep else tempfile.mkdtemp()
        os.makedirs(folder, exist_ok=True)
        said, different = compare(folder, d, texts)
        failed += different > 0
        refused += bool(said) and different == 0
        if said:
            print(f"{base}/{name}: {said}", flush=True)
    print(f"{len(VARIANTS)} variants of {args.texts} texts: {failed} differ, {refused} refused")
    sys.exit(failed > 0)


main()
