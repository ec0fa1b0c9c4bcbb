#!/bin/sh
# Stops what start-all.sh started, and nothing else: the worker first, then Copyparty and ChromaDB.
# Each is asked to end (SIGTERM) and waited for, 60 s; with --force what has not ended after 10 s is
# killed. Documents that are being read go on at the next start. Status 1 when something still runs.
set -eu
cd "$(dirname "$0")/.."
. scripts/services.sh

usage() {
    echo "usage: scripts/stop-all.sh [--force]"
    sed -n '2,4s/^# \{0,1\}//p' scripts/stop-all.sh
}

force=
patience=60
for argument; do
    case "$argument" in
    --force) force=yes patience=10 ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 1 ;;
    esac
done
load_settings

# Until NAME has ended; status 1 when it has not after so many seconds.
wait_end() {
    tenths=$(($2 * 10))
    while running "$1" >/dev/null; do
        [ $tenths -gt 0 ] || return 1
        sleep 0.1
        tenths=$((tenths - 1))
    done
}

stop() {
    if ! pid=$(running "$1"); then
        rm -f "$SERVICES_DIR/$1.pid"
        echo "$2: not running"
        return 0
    fi
    kill "$pid" 2>/dev/null || true
    if ! wait_end "$1" $patience && [ -n "$force" ]; then
        echo "$2: killed, since it had not ended after $patience s (pid $pid)"
        kill -9 "$pid" 2>/dev/null || true
    fi
    if ! wait_end "$1" 5; then
        echo "$2: still running (pid $pid); --force kills it" >&2
        return 1
    fi
    rm -f "$SERVICES_DIR/$1.pid"
    echo "$2: stopped"
}

status=0
stop worker Worker || status=1
stop copyparty Copyparty || status=1
stop chromadb ChromaDB || status=1
if [ -f "$SERVICES_DIR/compose" ]; then
    # The file's variables are wanted, whatever they are.
    export UPLOADS_DIR
    if compose -f "$(cat "$SERVICES_DIR/compose")" down; then
        rm -f "$SERVICES_DIR/compose"
    else
        echo "the containers were not stopped" >&2
        status=1
    fi
fi
exit $status
