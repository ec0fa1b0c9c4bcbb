#!/bin/sh
# bench/run.sh [BUILD]: measures the program built in BUILD (build) and prints one table.
#
# Judged documents are found at ../shared/eval/cranfield beside the project (DOCUSEARCH_EVAL
# overrides), other documents by server.py. What is built for measuring stays in BENCH_SCRATCH
# (/tmp/docusearch-bench) and is used again.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "${1:-$root/build}" && pwd)
judged=${DOCUSEARCH_EVAL:-$root/../shared/eval/cranfield}
scratch=${BENCH_SCRATCH:-${TMPDIR:-/tmp}/docusearch-bench}
mkdir -p "$scratch"

printf '%-58s %22s   %-26s\n' "what" "value" "asked"
if [ -f "$judged/corpus.jsonl" ]; then
    ninja -C "$build" bench/bench_lexical >/dev/null
    "$build/bench/bench_lexical" "$judged" "$scratch"
else
    echo "lexical search: skipped, no judged documents at $judged"
fi
if [ -x "$build/docusearch" ]; then
    "$root/bench/server.py" "$build/docusearch" "$scratch/server"
fi
