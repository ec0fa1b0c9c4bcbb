#!/bin/bash
# scripts/sanitize.sh [asan|tsan…]: builds with AddressSanitizer and UndefinedBehaviorSanitizer in
# build-asan/, with ThreadSanitizer in build-tsan/ (both when none is named), and runs the whole test
# suite under each. Status 1 when a test fails or a sanitizer had anything to report.
#
# A process' report goes to build-*/reports/; a jailed child, which opens no file, reports on standard
# error and ends with a status at which its parent stops (src/sandbox/spawn.c), as any process does
# whose behaviour is undefined.
set -u
cd "$(dirname "$0")/.." || exit 1

# gcc's warnings see the branches that a sanitizer adds: they are no errors here, `make` judges them.
declare -A wanted=(
    [asan]="-Db_sanitize=address,undefined -Db_lundef=false"
    [tsan]="-Db_sanitize=thread -Db_lundef=false"
)
status=0
[ $# -gt 0 ] || set -- asan tsan
for kind; do
    if [ -z "${wanted[$kind]:-}" ]; then
        echo "usage: scripts/sanitize.sh [asan|tsan…]" >&2
        exit 2
    fi
    build=build-$kind
    if [ ! -f "$build/build.ninja" ]; then
        # shellcheck disable=SC2086 # several options
        meson setup "$build" ${wanted[$kind]} -Dfault_points=true -Dwerror=false || exit 1
    fi
    ninja -C "$build" || exit 1

    reports=$PWD/$build/reports
    rm -rf "$reports"
    mkdir -p "$reports"
    common="log_path=$reports/$kind:exitcode=99"
    # Addresses as ThreadSanitizer expects them, where the kernel spreads them further.
    run=(setarch "$(uname -m)" -R)
    "${run[@]}" true 2>/dev/null || run=()
    DOCUSEARCH_SLOW=5 \
        ASAN_OPTIONS="$common:detect_stack_use_after_return=1" \
        UBSAN_OPTIONS="exitcode=99:halt_on_error=1:print_stacktrace=1" \
        TSAN_OPTIONS="$common:second_deadlock_stack=1" \
        "${run[@]}" scripts/test.sh "$build" || status=1

    for report in "$reports"/*; do
        [ -s "$report" ] || continue
        echo "== $report"
        head -n 40 "$report"
        status=1
    done
done
exit $status
