#!/bin/sh
# Says of ChromaDB, Copyparty and the worker whether they answer. With --json:
#
#   {"services":{"chromadb":{"status","url","mode","pid","taken_by"},"copyparty":{…},"worker":{…}},
#    "all_running"}
#
# status: running (it answers), unhealthy (its process is there and does not answer), stopped.
# mode: native or docker, as start-all.sh started it; external where somebody else did; else null.
# taken_by: where it is stopped, who has its port, "pid 123 (python3)"; else null.
set -eu
cd "$(dirname "$0")/.."
. scripts/services.sh

json=
for argument; do
    case "$argument" in
    --json) json=yes ;;
    --help | -h) echo "usage: scripts/status.sh [--json]" && exit 0 ;;
    *) echo "usage: scripts/status.sh [--json]" >&2 && exit 1 ;;
    esac
done
load_settings

quoted() {
    printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g')"
}

all=true
members=
# NAME TITLE URL, its PORT on this machine or "", and what answers where it runs.
look() {
    pid=null
    mode=null
    found=stopped
    taken_by=
    if id=$(running "$1"); then
        pid=$id
        mode='"native"'
        found=unhealthy
    elif contained "$1"; then
        mode='"docker"'
    fi
    name=$1
    title=$2
    url=$3
    port=$4
    shift 4
    if "$@" && { [ "$mode" != null ] || is_itself "$name"; }; then
        found=running
        [ "$mode" != null ] || mode='"external"'
    else
        all=false
        if [ $found = stopped ]; then
            mode=null
            [ -z "$port" ] || taken_by=$(holder "$port") || taken_by=
        fi
    fi
    if [ -z "$json" ]; then
        note=$(printf '%s' "$mode" | tr -d '"' | sed 's/^null$//')
        [ "$pid" = null ] || note="$note, pid $pid"
        [ -z "$taken_by" ] || note="port $port is taken by $taken_by"
        printf '%-10s %-10s %s%s\n' "$title" $found "$url" "${note:+ ($note)}"
    fi
    taken=null
    [ -z "$taken_by" ] || taken=$(quoted "$taken_by")
    members="$members${members:+,}\"$name\":{\"status\":\"$found\",\"url\":$(quoted "$url"),\
\"mode\":$mode,\"pid\":$pid,\"taken_by\":$taken}"
}

look chromadb ChromaDB "$chromadb_url" "$chromadb_here" chroma_answers
look copyparty Copyparty "$copyparty_url" "$COPYPARTY_PORT" answers "$copyparty_url/"
look worker Worker "$worker_url" "$worker_port" answers "$worker_url/health"
if [ -n "$json" ]; then
    printf '{"services":{%s},"all_running":%s}\n' "$members" $all
fi
