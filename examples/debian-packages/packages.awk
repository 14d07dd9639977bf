# Stanzas of Packages or Translation-en files to lines "words<TAB>{"id","text"}".

function flush_package(   key, words) {
    if (name == "" || text == "") return
    key = text
    # The program itself stands for its parts, which repeat its text.
    if (name ~ /-(dev|doc|dbg|dbgsym|data|common|l10n.*|i18n.*|locale.*)$/) return
    if (key in seen || name in seen_name || text ~ /[Tt]ransitional|[Dd]ummy package|[Dd]ebug symbols/) return
    seen[key] = seen_name[name] = 1
    words = tolower(name " " text)
    gsub(/[^a-z0-9]+/, " ", words)
    gsub(/\\/, "&&", text)
    gsub(/"/, "\\\"", text)
    gsub(/[\001-\037]/, " ", text)
    printf " %s \t{\"id\":\"%s\",\"text\":\"%s\"}\n", words, name, text
}

/^Package: / { name = $2; text = ""; in_text = 0; next }
/^Description(-en)?: / {
    text = $0
    sub(/^[^:]*: /, "", text)
    in_text = 1
    next
}
/^ / {
    if (in_text) {
        line = $0
        sub(/^ +/, "", line)
        if (line == ".") next
        if (text !~ /[.:!?]$/ && !long) text = text "."
        long = 1
        text = text " " line
    }
    next
}
/^$/ { flush_package(); name = text = ""; in_text = long = 0; next }
{ in_text = 0 }
END { flush_package() }
