#!/bin/sh
# Installs what building and running needs, and with the argument "test" also what testing needs.
# Quick when everything is there already. Debian 12; macOS with Homebrew as well as can be.
set -eu
cd "$(dirname "$0")"

fail() {
    echo "setup: $*" >&2
    exit 1
}

case "${1:-build}" in
build) groups=build ;;
test) groups="build test" ;;
*) fail "usage: scripts/setup.sh [build|test]" ;;
esac

# The package names of the wanted groups for one system.
names() {
    for group in $groups; do
        case "$group" in
        build) cat "packages-$1.txt" ;;
        test) cat "packages-$1-test.txt" ;;
        esac
    done
}

setup_debian() {
    # shellcheck disable=SC2046 # a word a package is what is wanted
    set -- $(names debian)
    missing=$(
        dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' "$@" 2>/dev/null |
            awk '$1 == "ii" { print $2 }' >"$installed"
        for package in "$@"; do
            grep -qx "$package" "$installed" || echo "$package"
        done
    )
    [ -n "$missing" ] || return 0

    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "run this as root, or install sudo; missing:" $missing
        as_root=sudo
    fi
    # shellcheck disable=SC2086
    echo "setup: installing (a few minutes on a bare system):" $missing
    # shellcheck disable=SC2086
    if ! { $as_root apt-get update -q &&
        $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        fail "the packages could not be installed"
    fi
}

setup_brew() {
    command -v brew >/dev/null || fail "Homebrew is not installed: https://brew.sh"
    echo "setup: macOS has not been tried; this installs the packages' names as Homebrew has them"
    # shellcheck disable=SC2046
    brew install --quiet $(names brew)
    [ -d /Applications/LibreOffice.app ] || brew install --quiet --cask libreoffice
}

installed=$(mktemp)
log=$(mktemp)
trap 'rm -f "$installed" "$log"' EXIT
if [ "$(uname -s)" = Darwin ]; then
    setup_brew
elif command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
    setup_debian
else
    echo "setup: neither Debian nor macOS: going on with what is installed; Debian's names are in" \
        "scripts/packages-debian.txt" >&2
fi
