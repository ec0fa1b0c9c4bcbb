#!/bin/bash
# The whole test suite over a build folder: Meson's tests (unit, source, fuzz corpus), then pytest
# over the real program. The last line is "N passed, N failed, N skipped"; status 1 when any failed.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build-test}

meson test -C "$build" --print-errorlogs
reports=("$build/meson-logs/testlog.json")

# A virtual environment with tests/server's requirements, made anew when they change.
make_venv() {
    local wanted
    wanted=$(python3 --version; cat tests/server/requirements.txt 2>/dev/null)
    [ "$(cat .venv/made-for 2>/dev/null)" = "$wanted" ] && return 0
    rm -rf .venv
    python3 -m venv .venv || return 1
    if [ -s tests/server/requirements.txt ]; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check \
            -r tests/server/requirements.txt || return 1
    else
        .venv/bin/python -m pip install --quiet --disable-pip-version-check pytest || return 1
    fi
    echo "$wanted" >.venv/made-for
}

if compgen -G 'tests/server/test_*.py' >/dev/null; then
    reports+=("$build/pytest.xml")
    rm -f "$build/pytest.xml"
    if make_venv; then
        DOCUSEARCH_BIN="$PWD/$build/docusearch" .venv/bin/python -m pytest tests/server -q -rs \
            -p no:cacheprovider --junitxml="$build/pytest.xml"
    else
        echo "tests/server: its Python packages could not be installed" >&2
    fi
fi
exec python3 scripts/count_tests.py "${reports[@]}"
