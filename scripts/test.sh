#!/bin/bash
# The whole test suite over a build folder: Meson's tests (unit, source, fuzz corpus), then pytest
# over the real program. DOCUSEARCH_SLOW=5 gives work five times its time. The last line is "N passed,
# N failed, N skipped"; status 1 when any failed.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build-test}

meson test -C "$build" --print-errorlogs -t "${DOCUSEARCH_SLOW:-1}"
reports=("$build/meson-logs/testlog.json")

# The interpreter that runs the server tests: a virtual environment with their requirements, made anew
# when these change; where Python's registry is out of reach, Debian's own pytest, and the tests that
# need more skip, saying so.
make_venv() {
    local wanted
    wanted=$(python3 --version; cat tests/server/requirements.txt)
    [ "$(cat .venv/made-for 2>/dev/null)" = "$wanted" ] && return 0
    rm -rf .venv
    python3 -m venv .venv && .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --retries 1 -r tests/server/requirements.txt || return 1
    echo "$wanted" >.venv/made-for
}
if make_venv; then
    pytest_python=.venv/bin/python
else
    rm -rf .venv
    pytest_python=/usr/bin/python3
    echo "tests/server: no packages from Python's registry; the browser test will be skipped" >&2
fi

reports+=("$build/pytest.xml")
rm -f "$build/pytest.xml"
# A file's tests run one after another, files beside each other: most of a test is waiting.
how=(-q -rs -p no:cacheprovider --junitxml="$build/pytest.xml")
"$pytest_python" -c "import xdist" 2>/dev/null &&
    how+=(-n "$(($(getconf _NPROCESSORS_ONLN) + 1))" --dist loadfile --no-loadscope-reorder)
DOCUSEARCH_BIN="$PWD/$build/docusearch" "$pytest_python" -m pytest tests/server "${how[@]}"
exec python3 scripts/count_tests.py "${reports[@]}"
