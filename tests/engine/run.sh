#!/bin/sh
# run.sh - exported files in a stock engine: does it compute what kerf measured?  Speaks TAP.
#
#   run.sh ENGINE_CASES SOURCE_FOLDER CACHE_FOLDER
#
# The engine (package.json beside this file: prebuilt llama.cpp for Node) is installed once into
# CACHE_FOLDER.  Without Node 20, npm or a package registry the test skips (77) and says why;
# where CI=true it fails instead.  Models: the reference model, and stories260K where
# KERF_PUBLIC_DATA names a folder that has it.
set -u
cases=$1
source=$2
cache=$3
here=$source/tests/engine

skip() {
    echo "1..0 # SKIP $1"
    if [ "${CI:-}" = true ]; then
        echo "# CI=true: this test is required" >&2
        exit 1
    fi
    exit 77
}

command -v node >/dev/null 2>&1 || skip "there is no node; Node 20 or newer runs the stock engine"
major=$(node -p 'process.versions.node.split(".")[0]') || skip "node does not run"
[ "$major" -ge 20 ] || skip "node is version $major; the stock engine needs 20 or newer"
command -v npm >/dev/null 2>&1 || skip "there is no npm to install the stock engine with"
[ "$(uname -sm)" = "Linux x86_64" ] || skip "the stock engine is installed for Linux on x86-64 only"

# Installed again when the versions asked for have changed.
mkdir -p "$cache" || exit 1
if ! cmp -s "$here/package.json" "$cache/installed.json"; then
    cp "$here/package.json" "$cache/package.json" || exit 1
    (cd "$cache" && npm install --ignore-scripts --omit=optional --no-package-lock --no-audit \
        --no-fund --loglevel=error >install.log 2>&1) ||
        skip "npm could not install the stock engine: $(grep -m1 . "$cache/install.log")"
    cp "$here/package.json" "$cache/installed.json" || exit 1
fi
cp "$here/engine.mjs" "$cache/engine.mjs" || exit 1

work=$(mktemp -d "${TMPDIR:-/tmp}/kerf-engine-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
status=0

# model text separator: one run of the cases, with a line of its own before the engine's.
run() {
    echo "# $1"
    mkdir "$work/cases"
    if "$cases" "$2" "$3" "$4" "$work/cases"; then
        node "$cache/engine.mjs" "$work/cases" "$5" || status=1
    else
        echo "not ok $(($5 + 1)) - cases of $1 are exported"
        status=1
    fi
    rm -rf "$work/cases"
}

reference=$source/evaluator/reference
run "the reference model" "$reference/kerf-reference.gguf" "$reference/data/heldout.txt" "" 0 \
    >"$work/tap"
cat "$work/tap"
n=$(grep -c -E '^(not )?ok ' "$work/tap")
stories=${KERF_PUBLIC_DATA:-/nowhere}
if [ -e "$stories/stories260K/stories260Ktok512.gguf" ]; then
    run "stories260K" "$stories/stories260K/stories260Ktok512.gguf" \
        "$stories/text/tinystories_sample.txt" "<|endoftext|>" "$n" >"$work/tap"
    cat "$work/tap"
    n=$((n + $(grep -c -E '^(not )?ok ' "$work/tap")))
else
    n=$((n + 1))
    echo "ok $n - stories260K # SKIP KERF_PUBLIC_DATA names no folder that has it"
fi
echo "1..$n"
exit $status
