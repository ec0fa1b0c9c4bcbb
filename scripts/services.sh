# shellcheck shell=sh disable=SC2034 # those who read it use its variables
# What start-all.sh, stop-all.sh, status.sh and run-worker-native.sh share; read by them (`.`), from
# the project's folder.
#
# A program that was started is known by a line in SERVICES_DIR/NAME.pid: its id, and when it began,
# so that another program that came to the same id later is never taken for it. SERVICES_DIR/compose
# names the Compose file whose containers were started.

# KEY=VALUE lines of .env. What the environment has already stays as it is.
load_env_file() {
    [ -f .env ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        line=$(printf '%s' "$line" | tr -d '\r' | sed 's/^[[:space:]]*\(export[[:space:]]\{1,\}\)\{0,1\}//')
        case "$line" in '' | '#'*) continue ;; esac
        name=${line%%=*}
        value=${line#*=}
        case "$name" in
        '' | *[!A-Za-z0-9_]* | [0-9]*) fail ".env: '$line' is not NAME=VALUE" ;;
        esac
        [ "$name" != "$line" ] || fail ".env: '$line' is not NAME=VALUE"
        case "$value" in
        \"*\") value=${value#\"} value=${value%\"} ;;
        \'*\') value=${value#\'} value=${value%\'} ;;
        esac
        eval "[ -n \"\${$name+set}\" ]" || export "$name=$value"
    done <.env
}

fail() {
    echo "Error: $*" >&2
    exit 1
}

# An absolute path of a file or folder that may not be there yet.
absolute() {
    case "$1" in
    /*) printf '%s\n' "$1" ;;
    *) printf '%s/%s\n' "$PWD" "${1#./}" ;;
    esac
}

load_settings() {
    load_env_file
    PROGRAM=$(absolute "${DOCUSEARCH_BIN:-build/docusearch}")
    SERVICES_DIR=$(absolute "${SERVICES_DIR:-services}")
    LOG_DIR=$(absolute "${LOG_DIR:-logs}")
    DATA_DIR=$(absolute "${DATA_DIR:-data}")
    UPLOADS_DIR=$(absolute "${UPLOADS_DIR:-$DATA_DIR/uploads}")
    export DATA_DIR UPLOADS_DIR
    CHROMADB_PORT=${CHROMADB_PORT:-8001}
    COPYPARTY_PORT=${COPYPARTY_PORT:-8000}
    worker_port=${WORKER_PORT:-8002}
    worker_host=${WORKER_HOST:-127.0.0.1}
    case "$worker_host" in
    0.0.0.0 | ::) worker_url=http://127.0.0.1:$worker_port ;;
    *:*) worker_url=http://[$worker_host]:$worker_port ;;
    *) worker_url=http://$worker_host:$worker_port ;;
    esac
    copyparty_url=http://127.0.0.1:$COPYPARTY_PORT
    scheme=http
    case "${CHROMA_SSL:-}" in 1 | true | yes | on) scheme=https ;; esac
    # CHROMA_HOST names a ChromaDB of somebody's, unless it is where ours would be and nobody is.
    chroma_elsewhere=
    chromadb_here=$CHROMADB_PORT # its port on this machine, if it is
    chromadb_url=http://127.0.0.1:$CHROMADB_PORT
    if [ -n "${CHROMA_HOST:-}" ]; then
        chromadb_url=$scheme://$CHROMA_HOST:${CHROMA_PORT:-8000}
        case "$CHROMA_HOST" in
        localhost | 127.*) chromadb_here=${CHROMA_PORT:-8000} ;;
        *) chromadb_here= ;;
        esac
        case "$CHROMA_HOST:${CHROMA_PORT:-8000}" in
        "localhost:$CHROMADB_PORT" | "127.0.0.1:$CHROMADB_PORT")
            if ! running chromadb >/dev/null && ! contained chromadb && chroma_answers; then
                chroma_elsewhere=yes
            fi
            ;;
        *) chroma_elsewhere=yes ;;
        esac
    fi
}

# ---- asking ----------------------------------------------------------------------------------------

# What a GET answers, where that is 2xx or 3xx, within 5 s; else status 1.
reply() {
    if command -v curl >/dev/null; then
        curl -fsS --noproxy '*' --max-time 5 "$1" 2>/dev/null
    elif command -v wget >/dev/null; then
        wget -q --no-proxy --tries=1 --timeout=5 -O - "$1" 2>/dev/null
    else
        python3 - "$1" 2>/dev/null <<'END'
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
sys.stdout.buffer.write(opener.open(sys.argv[1], timeout=5).read(1 << 20))
END
    fi
}

answers() {
    reply "$1" >/dev/null
}

# The heartbeat of a ChromaDB elsewhere, with the key for what stands before it.
chroma_reply() {
    if [ -n "${CHROMA_TOKEN:-}" ] && command -v curl >/dev/null; then
        printf 'header = "x-chroma-token: %s"\n' "$CHROMA_TOKEN" |
            curl -fsS --max-time 5 -K - "$chromadb_url/api/v2/heartbeat" 2>/dev/null
    else
        reply "$chromadb_url/api/v2/heartbeat"
    fi
}

chroma_answers() {
    chroma_reply >/dev/null
}

# Whether it is NAME that answers there: any web server may.
is_itself() {
    case "$1" in
    chromadb) chroma_reply | grep -q '"nanosecond heartbeat"' ;;
    copyparty) reply "$copyparty_url/?ls" | grep -q '"srvinf"' ;;
    worker) reply "$worker_url/health" | grep -q '"queue"' ;;
    esac
}

# ---- ports -----------------------------------------------------------------------------------------

# Ids of the processes that listen on a port, as far as they may be seen. Status 1: nobody listens.
listeners() {
    if command -v ss >/dev/null; then
        found=$(ss -Hltnp "sport = :$1" 2>/dev/null) && [ -n "$found" ] || return 1
        printf '%s\n' "$found" | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u
    elif command -v lsof >/dev/null; then
        lsof -nP -t -iTCP:"$1" -sTCP:LISTEN 2>/dev/null || return 1
    elif [ -r /proc/net/tcp ]; then
        found=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
            awk -v port=":$(printf %04X "$1")\$" '$4 == "0A" && $2 ~ port { print $10 }')
        [ -n "$found" ] || return 1
        for inode in $found; do
            for link in /proc/[0-9]*/fd/*; do
                if [ "$(readlink "$link" 2>/dev/null)" = "socket:[$inode]" ]; then
                    link=${link#/proc/}
                    echo "${link%%/*}"
                fi
            done
        done | sort -u
    else
        return 1
    fi
    return 0
}

name_of() {
    if [ -r "/proc/$1/comm" ]; then
        cat "/proc/$1/comm"
    else
        basename "$(ps -o comm= -p "$1" 2>/dev/null)"
    fi
}

# "pid 123 (python3)", or what else can be said of who has a port.
holder() {
    pids=$(listeners "$1") || return 1
    [ -n "$pids" ] || pids=
    said=
    for pid in $pids; do
        said="$said${said:+, }pid $pid ($(name_of "$pid"))"
    done
    echo "${said:-a process of another user}"
}

# Ends with status 1 where somebody has the port. PORT, what it is wanted for, how to choose another.
need_port() {
    if taken_by=$(holder "$1"); then
        echo "Error: Address already in use: port $1 ($2) is taken by $taken_by" >&2
        echo "Set $3 to another port, as $3=$(($1 + 100))" >&2
        exit 1
    fi
}

# ---- processes -------------------------------------------------------------------------------------

# When a process began: of this start of the machine, in the clock's ticks. Status 1: no such process.
begun() {
    if [ -r /proc/self/stat ]; then
        ticks=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f1,20)
        case "$ticks" in '' | Z* | X*) return 1 ;; esac
        echo "${ticks#* }@$(cat /proc/sys/kernel/random/boot_id)"
    else
        when=$(LC_ALL=C ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' _)
        [ -n "$when" ] && echo "$when"
    fi
}

# The id of the program that was started as NAME, while it runs; status 1: it does not.
running() {
    [ -f "$SERVICES_DIR/$1.pid" ] || return 1
    read -r pid when <"$SERVICES_DIR/$1.pid" || return 1
    case "$pid" in '' | *[!0-9]*) return 1 ;; esac
    [ "$(begun "$pid")" = "$when" ] && echo "$pid"
}

note_pid() {
    when=$(begun "$2") || return 1
    echo "$2 $when" >"$SERVICES_DIR/$1.pid.new"
    mv "$SERVICES_DIR/$1.pid.new" "$SERVICES_DIR/$1.pid"
}

# Starts NAME with its output in LOG: detached, its id noted.
launch() {
    name=$1
    log=$2
    shift 2
    if command -v setsid >/dev/null; then
        setsid nohup "$@" >>"$log" 2>&1 </dev/null &
    else
        nohup "$@" >>"$log" 2>&1 </dev/null &
    fi
    note_pid "$name" $! || true
}

# ---- containers ------------------------------------------------------------------------------------

docker_runs() {
    command -v docker >/dev/null && docker info >/dev/null 2>&1
}

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose -p docusearch "$@"
    elif command -v docker-compose >/dev/null; then
        docker-compose -p docusearch "$@"
    else
        fail "Docker is there, but neither 'docker compose' nor docker-compose"
    fi
}

# Whether NAME runs in a container that start-all.sh started.
contained() {
    [ -f "$SERVICES_DIR/compose" ] || return 1
    case "$1,$(cat "$SERVICES_DIR/compose")" in
    worker,*native-worker*) return 1 ;;
    esac
}

# ---- programs --------------------------------------------------------------------------------------

# A service's program: on PATH, or in the folder that `run-worker-native.sh setup --services` makes.
service_program() {
    if command -v "$1" >/dev/null; then
        command -v "$1"
    elif [ -x ".venv-services/bin/$1" ]; then
        echo "$PWD/.venv-services/bin/$1"
    else
        return 1
    fi
}
