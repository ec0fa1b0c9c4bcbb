#!/bin/sh
# fuzz/run.sh [SECONDS [TARGET…]]: builds the fuzz targets with clang in build-fuzz/ and runs each in
# turn for that long (60 s when not said), then prints a table. Exit status 1 when one found something;
# the input that did it is kept in build-fuzz/found/. What the engine learns is kept in
# build-fuzz/learned/ and goes into the next run.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
case $seconds in
'' | *[!0-9]*)
    echo "usage: fuzz/run.sh [SECONDS [TARGET…]]" >&2
    exit 2
    ;;
esac
[ $# -eq 0 ] || shift

build=$PWD/build-fuzz
mkdir -p "$build"

# logged NAME COMMAND…: its output is seen only when it fails, and then we stop.
logged() {
    log=$build/$1.log
    shift
    "$@" >"$log" 2>&1 || {
        cat "$log" >&2
        exit 1
    }
}

if [ -f "$build/build.ninja" ]; then
    logged setup meson setup --reconfigure "$build" # a target may be new
else
    logged setup env CC="${FUZZ_CC:-clang}" meson setup "$build" -Dfuzz=true -Db_lundef=false
fi
targets=$*
if [ -z "$targets" ]; then
    for source in fuzz/fuzz_*.c; do
        name=${source#fuzz/fuzz_}
        name=${name%.c}
        if grep -q "^build fuzz/fuzz_$name:" "$build/build.ninja"; then
            targets="$targets $name"
        fi
    done
fi

value() { sed -n "s/^stat::$1: *//p" "$build/run-$2.log" | tail -1; }

status=0
table=$build/table.txt
printf '%-8s %12s %9s %9s %8s  %s\n' target runs runs/s coverage MB result >"$table"
for name in $targets; do
    logged "build-$name" ninja -C "$build" "fuzz/fuzz_$name"
    mkdir -p "$build/learned/$name" "$build/found"
    echo "$name: $seconds s" >&2
    result=clean
    ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:allocator_may_return_null=1} \
        UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1} \
        "$build/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -malloc_limit_mb=1024 -max_len=65536 -print_final_stats=1 -verbosity=1 \
        -artifact_prefix="$build/found/$name-" \
        "$build/learned/$name" "fuzz/corpus/$name" >"$build/run-$name.log" 2>&1 || {
        result="FOUND, see build-fuzz/run-$name.log"
        status=1
    }
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$build/run-$name.log" | tail -1)
    printf '%-8s %12s %9s %9s %8s  %s\n' "$name" "$(value number_of_executed_units "$name")" \
        "$(value average_exec_per_sec "$name")" "${coverage:-?}" \
        "$(value peak_rss_mb "$name")" "$result" >>"$table"
done
cat "$table"
exit $status
