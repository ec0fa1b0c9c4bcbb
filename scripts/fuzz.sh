#!/bin/sh
# Runs every fuzz target of a build folder made with -Dfuzz=true for FUZZ_SECONDS each (60), from its
# corpus under fuzz/corpus/<name>; what it finds of interest goes to the build folder. A crash leaves
# its input there and ends the run.
set -eu
build=${1:-build-fuzz}
found=no
for target in "$build"/fuzz/fuzz_*; do
    [ -f "$target" ] && [ -x "$target" ] || continue
    found=yes
    name=${target##*/fuzz_}
    grown="$build/corpus/$name"
    mkdir -p "$grown"
    seeds="fuzz/corpus/$name"
    [ -d "$seeds" ] || seeds=
    echo "fuzz: $name for ${FUZZ_SECONDS:-60} s"
    # shellcheck disable=SC2086 # no folder is no argument
    "$target" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$grown/" -print_final_stats=1 "$grown" $seeds
done
[ "$found" = yes ] || { echo "fuzz: no target in $build/fuzz" >&2; exit 1; }
