# The first stage of a search: documents that share words with the query, the rarer the better.
#
#     awk -f candidates.awk -v query='edit photos' packages.tsv | sort -k1,1nr | head -n 100 | cut -f2
#
# Reads lines "words<TAB>document" (packages.sh) and prints "score<TAB>document". A query word counts
# where a word of the document starts with its stem (no plural s, no -ing). The score is BM25's with
# every count taken as one: log(documents / documents with the word), less in long documents.

BEGIN {
    n_stop = split("a an and are as at be by can for from how i in is it me my of on or our that the their them this to up use using we what when where which who why with without your", stop, " ")
    for (i = 1; i <= n_stop; i++) skip[stop[i]] = 1
    query = tolower(query)
    gsub(/[^a-z0-9]+/, " ", query)
    n = split(query, word, " ")
    for (i = 1; i <= n; i++) {
        if (word[i] in skip || length(word[i]) < 2) continue
        stem = word[i]
        if (length(stem) > 5) sub(/ing$/, "", stem)
        if (length(stem) > 3) sub(/s$/, "", stem)
        terms[++n_terms] = " " stem
    }
    FS = "\t"
}

{
    n_documents++
    all_size += length($1)
    hits = ""
    for (t = 1; t <= n_terms; t++)
        if (index($1, terms[t])) {
            hits = hits t " "
            with[t]++
        }
    if (hits != "") {
        matched[++n_matched] = hits
        size[n_matched] = length($1)
        document[n_matched] = $2
    }
}

END {
    for (m = 1; m <= n_matched; m++) {
        n = split(matched[m], hit, " ")
        score = 0
        for (i = 1; i <= n; i++) score += log(n_documents / with[hit[i]])
        printf "%.6f\t%s\n", score / (1 + 1.2 * (0.25 + 0.75 * size[m] * n_documents / all_size)), document[m]
    }
}
