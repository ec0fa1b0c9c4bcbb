#!/bin/sh
# ChromaDB, Copyparty and the worker, together, on this machine's 127.0.0.1:
#
#   scripts/start-all.sh [--gpu]       the worker natively, on the device it finds or DEVICE names
#   scripts/start-all.sh --cpu         the worker natively, on the CPU
#   scripts/start-all.sh --docker-only everything in containers, on the CPU
#
# ChromaDB and Copyparty run as programs where they are on PATH or were fetched with
# `scripts/run-worker-native.sh setup --services`; else in containers where there is Docker. What runs
# already is left alone; of two starts at once the second waits for the first. A ChromaDB that
# CHROMA_HOST names is used, and none is started.
# Ports: CHROMADB_PORT (8001), COPYPARTY_PORT (8000), WORKER_PORT (8002). Data: DATA_DIR,
# UPLOADS_DIR and SERVICES_DIR (ChromaDB's and Copyparty's). COPYPARTY_ACCOUNT (USER:PASSWORD) has
# Copyparty ask for it. Logs: LOG_DIR. scripts/stop-all.sh stops it all, scripts/status.sh looks.
set -eu
cd "$(dirname "$0")/.."
. scripts/services.sh

usage() {
    echo "usage: scripts/start-all.sh [--gpu|--cpu|--docker-only|--help]"
    sed -n '2,15s/^# \{0,1\}//p' scripts/start-all.sh
}

mode=gpu
for argument; do
    case "$argument" in
    --gpu | --cpu | --docker-only) mode=${argument#--} ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 1 ;;
    esac
done
load_settings

# What this run started is stopped again when the rest cannot be.
started=
locked=
lock=$SERVICES_DIR/start.lock
undo() {
    status=$?
    if [ $status -ne 0 ] && [ -n "$started" ]; then
        echo "Stopping what was started:$started" >&2
        for name in $started; do
            if pid=$(running "$name"); then kill "$pid" 2>/dev/null || true; fi
            rm -f "$SERVICES_DIR/$name.pid"
        done
    fi
    [ -z "$locked" ] || rm -f "$lock"
    exit $status
}

# One start at a time: the lock is a link that leads nowhere, since its text, the holder's id and
# when it began, comes to be together with it. What a start that was killed left is taken away.
take_lock() {
    me="$$ $(begun $$)"
    waited=0
    until ln -s "$me" "$lock" 2>/dev/null; do
        [ $waited -lt 60 ] || fail "another start is under way (pid ${first%% *}; $lock)"
        if first=$(readlink "$lock"); then
            if [ "$(begun "${first%% *}")" != "${first#* }" ]; then
                drop_lock_of "$first"
            elif [ $waited -eq 0 ]; then
                echo "Another start is under way (pid ${first%% *}); waiting for it" >&2
            fi
        else
            first=unknown
            [ -w "$SERVICES_DIR" ] || fail "$SERVICES_DIR may not be written to"
        fi
        sleep 1
        waited=$((waited + 1))
    done
    locked=yes
}

# HOLDER: moved first, since only one mover succeeds; put back where another start had come first.
drop_lock_of() {
    mv "$lock" "$lock.$$" 2>/dev/null || return 0
    moved=$(readlink "$lock.$$")
    [ "$moved" = "$1" ] || ln -s "$moved" "$lock" 2>/dev/null || true
    rm -f "$lock.$$"
}

# NAME TITLE LOG URL SECONDS: until it answers; status 1, with the log's end, where it ends instead.
wait_up() {
    waited=0
    until answers "$4"; do
        if ! running "$1" >/dev/null || [ $waited -ge "$5" ]; then
            tail -n 15 "$3" >&2
            fail "$2 did not start; its log is $3"
        fi
        sleep 1
        waited=$((waited + 1))
    done
    # Somebody else may have answered: ChromaDB ends with status 0 where its port is taken.
    pid=$(running "$1") || fail "$2 ended, while another program answers at $4; its log is $3"
    echo "$2: $4 (pid $pid)"
}

# NAME TITLE PORT VARIABLE: true where it is to be started; ends where its port is taken.
wanted() {
    if pid=$(running "$1"); then
        echo "$2 runs already (pid $pid)"
        return 1
    fi
    need_port "$3" "$2" "$4"
}

start_chromadb() {
    log=$LOG_DIR/chromadb.log
    mkdir -p "$SERVICES_DIR/chroma"
    started="$started chromadb"
    launch chromadb "$log" "$chroma" run --path "$SERVICES_DIR/chroma" --host 127.0.0.1 \
        --port "$CHROMADB_PORT"
    wait_up chromadb ChromaDB "$log" "$chromadb_url/api/v2/heartbeat" 60
}

start_copyparty() {
    log=$LOG_DIR/copyparty.log
    mkdir -p "$SERVICES_DIR/copyparty" "$UPLOADS_DIR"
    case "$PROGRAM$UPLOADS_DIR" in
    *[,:]*) fail "Copyparty takes no ',' and no ':' in paths: $PROGRAM, $UPLOADS_DIR" ;;
    esac
    set -- -v "$UPLOADS_DIR::rwmd"
    if [ -n "${COPYPARTY_ACCOUNT:-}" ]; then
        user=${COPYPARTY_ACCOUNT%%:*}
        (
            umask 077 # in a file: everybody on the machine may read a program's arguments
            printf '[accounts]\n  %s: %s\n' "$user" "${COPYPARTY_ACCOUNT#*:}" \
                >"$SERVICES_DIR/copyparty/account.conf"
        )
        set -- -c "$SERVICES_DIR/copyparty/account.conf" -v "$UPLOADS_DIR::rwmd,$user"
    fi
    for event in xau xad xar xbr xac; do
        set -- "--$event" "f,t60,j,,$PROGRAM,hook" "$@"
    done
    started="$started copyparty"
    launch copyparty "$log" "$copyparty" -i 127.0.0.1 -p "$COPYPARTY_PORT" --no-crt -e2dsa \
        --hist "$SERVICES_DIR/copyparty/hist" --xiu "j,i5,,$PROGRAM,hook" "$@"
    wait_up copyparty Copyparty "$log" "$copyparty_url/" 60
}

start_worker() {
    log=$LOG_DIR/worker-native.log
    started="$started worker"
    launch worker "$log" scripts/run-worker-native.sh run
    wait_up worker Worker "$log" "$worker_url/health" 300
}

# FILE: its containers, without which the rest has no use.
start_containers() {
    docker_runs || fail "Docker is not there or its daemon does not answer"
    echo "docker/$1" >"$SERVICES_DIR/compose"
    compose -f "docker/$1" up -d --build || fail "the containers did not start"
}

# TITLE URL
wait_container() {
    waited=0
    until answers "$2"; do
        [ $waited -lt 120 ] || fail "$1 does not answer at $2; 'docker logs' tells more"
        sleep 1
        waited=$((waited + 1))
    done
    echo "$1: $2 (container)"
}

start_docker_only() {
    if running worker >/dev/null || running chromadb >/dev/null || running copyparty >/dev/null; then
        fail "programs are running that would be in the way: scripts/stop-all.sh stops them"
    fi
    start_containers docker-compose.yml
    wait_container ChromaDB "$chromadb_url/api/v2/heartbeat"
    wait_container Copyparty "$copyparty_url/"
    wait_container Worker "$worker_url/health"
}

# Copyparty's container reaches a worker outside by Docker's name for this machine.
prepare_for_containers() {
    export UPLOADS_DIR UPLOADS_UID="${UPLOADS_UID:-$(id -u)}" UPLOADS_GID="${UPLOADS_GID:-$(id -g)}"
    export CORS_ORIGIN="${CORS_ORIGIN:-http://host.docker.internal:$worker_port}"
    if [ "$(uname -s)" = Linux ] && [ -z "${WORKER_HOST:-}" ]; then
        echo "Note: Copyparty's container cannot reach 127.0.0.1 of this machine. Files are found" \
            "by the worker's own look at $UPLOADS_DIR; for hooks set WORKER_HOST=172.17.0.1 (the" \
            "address of Docker's bridge) and API_KEY."
    fi
}

start_services() {
    # A program is needed for what does not run yet.
    missing=
    native=
    if running chromadb >/dev/null; then
        native=ChromaDB
    elif [ -z "$chroma_elsewhere" ]; then
        chroma=$(service_program chroma) || missing=ChromaDB
    fi
    if running copyparty >/dev/null; then
        native=Copyparty
    else
        copyparty=$(service_program copyparty) || missing="${missing:+$missing and }Copyparty"
    fi
    if [ -n "$missing" ] && [ -n "$native" ]; then
        fail "$missing is missing, while $native runs as a program, not in a container:" \
            "scripts/run-worker-native.sh setup --services fetches both"
    fi
    if [ -n "$missing" ]; then
        docker_runs || fail "no program for $missing, and there is no Docker:" \
            "scripts/run-worker-native.sh setup --services fetches both"
        mkdir -p "$UPLOADS_DIR"
        prepare_for_containers
        start_containers docker-compose.native-worker.yml
        wait_container ChromaDB "$chromadb_url/api/v2/heartbeat"
        wait_container Copyparty "$copyparty_url/"
        return
    fi
    # Every port is looked at before anything starts.
    new=
    if [ -n "$chroma_elsewhere" ]; then
        chroma_answers || fail "ChromaDB not accessible at $chromadb_url (CHROMA_HOST)"
    elif wanted chromadb ChromaDB "$CHROMADB_PORT" CHROMADB_PORT; then
        new="$new start_chromadb"
    fi
    ! wanted copyparty Copyparty "$COPYPARTY_PORT" COPYPARTY_PORT || new="$new start_copyparty"
    running worker >/dev/null || need_port "$worker_port" worker WORKER_PORT
    for start in $new; do
        $start
    done
}

mkdir -p "$SERVICES_DIR" "$LOG_DIR"
trap undo EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
take_lock
if [ "$mode" = docker-only ]; then
    start_docker_only
    exit 0
fi
[ -x "$PROGRAM" ] || fail "$PROGRAM is not built: scripts/run-worker-native.sh setup builds it"
[ "$mode" != cpu ] || export DEVICE=cpu
start_services
if [ -z "$chroma_elsewhere" ]; then
    export CHROMA_HOST=127.0.0.1 CHROMA_PORT="$CHROMADB_PORT"
fi
if wanted worker Worker "$worker_port" WORKER_PORT; then
    start_worker
fi
echo "All running. Drop files into $copyparty_url or $UPLOADS_DIR; search at $worker_url"
