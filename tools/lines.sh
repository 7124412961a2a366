#!/usr/bin/env bash
# Lists lines of more than 120 columns. Left alone are tables and fenced code of Markdown, the cases of pgTAP suites,
# which have one line each, data of others, and lines with a word or an SQL text that no break would shorten.
source "$(dirname "$0")/lib.sh"

cd "$ROOT"
mapfile -t files < <(git ls-files -co --exclude-standard -- '*.rs' '*.sh' '*.toml' '*.md' '*.yml' 'sql/*' 'src/*.sql' \
    'core/*.sql' 'examples/*.sql' 'examples/*.py' 'clients/*.py' Makefile .ci/run)
found=$(python3 - "${files[@]}" <<'PYTHON'
import os, re, sys
for path in sys.argv[1:]:
    if not os.path.exists(path) or path.startswith(("tests/clients/", "tests/wycheproof/", "sql/released/")):
        continue
    fenced = False
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        line = line.rstrip("\n")
        if path.endswith(".md"):
            if re.match(r"\s*```", line):
                fenced = not fenced
                continue
            if fenced or re.match(r"\s*\||    |\t", line):
                continue
        whole = line.split() + (re.findall(r"'[^']*(?:''[^']*)*'", line) if path.endswith(".sql") else [])
        # A command in a script is one line where a break would hide what it does.
        most = 140 if path.endswith(".sh") and not line.lstrip().startswith("#") else 120
        if len(line) > most and max(map(len, whole)) < 60:
            print(f"{path}:{number}: {len(line)} columns")
PYTHON
)
if [[ -n $found ]]; then die "lines of more than 120 columns:"$'\n'"$found"; fi
