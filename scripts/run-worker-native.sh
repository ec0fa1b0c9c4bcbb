#!/bin/sh
# The worker on this machine itself, for its GPU:
#
#   setup [--services]   builds it (make); --services also gets ChromaDB and Copyparty, into
#                        .venv-services/, for start-all.sh
#   check                says which devices there are; status 0 where Metal (MPS) is
#   run [ARGUMENTS]      runs it until Ctrl-C; arguments go to `docusearch serve`
#   help                 this text
#
# Settings come from the environment as it is, then from .env in the project's folder. With
# CHROMA_HOST set, ChromaDB must answer before the worker starts.
set -eu
cd "$(dirname "$0")/.."
. scripts/services.sh

chromadb=chromadb==1.5.9
copyparty=copyparty==1.20.26

usage() {
    echo "usage: scripts/run-worker-native.sh setup|run|check|help"
    sed -n '3,11s/^# \{0,1\}//p' scripts/run-worker-native.sh
}

setup() {
    case "${1:-}" in
    '' | --services) ;;
    *) fail "setup takes --services, not '$1'" ;;
    esac
    make
    if [ "${1:-}" = --services ]; then
        [ -x .venv-services/bin/python ] || python3 -m venv .venv-services ||
            fail "no virtual environment can be made (Debian: install python3-venv)"
        .venv-services/bin/python -m pip install --quiet --disable-pip-version-check \
            "$chromadb" "$copyparty"
    fi
    echo "Built: $PROGRAM"
}

need_program() {
    [ -x "$PROGRAM" ] ||
        fail "$PROGRAM is not built: scripts/run-worker-native.sh setup builds it"
}

# Lines "NAME FACT", one a device that the program knows.
devices() {
    "$PROGRAM" check --json | tr -d '\n' | tr '}' '\n' | awk '
        match($0, /"what": *"device [a-z]+"/) {
            name = substr($0, RSTART, RLENGTH)
            sub(/.*device /, "", name)
            sub(/".*/, "", name)
            fact = $0
            sub(/.*"fact": *"/, "", fact)
            sub(/".*/, "", fact)
            print name, fact
        }'
}

check() {
    need_program
    listed=$(devices)
    [ -n "$listed" ] || fail "'$PROGRAM check' tells of no device"
    mps=$(printf '%s\n' "$listed" | sed -n 's/^mps //p')
    case "$mps" in
    present) available=True built=True ;;
    '' | 'not built in') available=False built=False ;;
    *) available=False built=True ;;
    esac
    echo "MPS Available: $available"
    echo "MPS Built: $built"
    if [ $available = True ]; then
        echo "✓ Metal/MPS is available!"
    fi
    printf '%s\n' "$listed" | sed -n '/^mps /!s/^\([^ ]*\) /Device \1: /p'
    [ $available = True ]
}

run() {
    need_program
    if [ -n "${CHROMA_HOST:-}" ] && ! chroma_answers; then
        echo "Error: ChromaDB not accessible" >&2
        echo "It does not answer at $chromadb_url/api/v2/heartbeat. Start it, or unset CHROMA_HOST:" \
            "vectors then stay in the data folder." >&2
        exit 1
    fi
    [ "$worker_port" = 0 ] || need_port "$worker_port" worker WORKER_PORT
    mkdir -p "$UPLOADS_DIR"
    exec "$PROGRAM" serve "$@"
}

command=${1:-help}
[ $# -eq 0 ] || shift
load_settings
case "$command" in
setup) setup "$@" ;;
check) check ;;
run) run "$@" ;;
help | --help | -h) usage ;;
*)
    usage >&2
    exit 1
    ;;
esac
