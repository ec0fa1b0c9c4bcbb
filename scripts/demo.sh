#!/bin/sh
# The main job, from nothing: makes the sample documents, gets the text model, starts the server,
# reads the samples into it, asks three questions. With a terminal it keeps serving until Ctrl-C, else
# it stops the server.
set -eu
cd "$(dirname "$0")/.."

program=${DOCUSEARCH_BIN:-build/docusearch}
samples=samples/made
export DATA_DIR="${DATA_DIR:-$PWD/data/demo}"
log=$DATA_DIR/server.log

say() { printf '\n== %s\n' "$*"; }

say "Making the sample documents"
scripts/make-samples.sh
mkdir -p "$DATA_DIR"

say "Getting the text model"
if ! scripts/fetch-text-model.sh; then
    echo "No text model could be had: search goes by words alone. The next run tries again."
fi

say "Starting the server"
: >"$log"
server=
stop() {
    [ -n "$server" ] || return 0
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# Waits until the server says that it is up; false when it ended instead.
start() {
    WORKER_PORT=$1 "$program" serve 2>"$log" &
    server=$!
    tries=0
    until grep -q 'Application startup complete' "$log"; do
        kill -0 "$server" 2>/dev/null || return 1
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || return 1
        sleep 0.1
    done
}
if ! start "${WORKER_PORT:-8002}"; then
    # The usual port is taken: any free one does for a demonstration.
    if grep -q 'Address already in use' "$log" && [ -z "${WORKER_PORT:-}" ]; then
        start 0 || { cat "$log" >&2; exit 1; }
    else
        cat "$log" >&2
        exit 1
    fi
fi
url=$(sed -n 's/.*Starting worker on \(http[^ ]*\).*/\1/p' "$log" | head -1)
echo "serving on $url (its log: $log)"

say "Reading the samples"
"$program" add "$samples"

tab=$(printf '\t')
while IFS="$tab" read -r question _; do
    say "$question"
    "$program" search -n 1 "$question"
done <samples/questions.txt

say "Open $url in a browser to search, look at the pages and drop in documents of your own"
if [ -t 0 ] && [ -t 1 ]; then
    echo "Ctrl-C stops the server."
    wait "$server" || true
fi
