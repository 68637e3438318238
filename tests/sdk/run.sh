#!/usr/bin/env bash
# Runs the official SDKs against a daemon and a bridge of their own. Called by `make test` after a build.
# Where Python, Node or a registry is missing it says so and passes: the rest of the tests need none of them.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${CARGO_TARGET_DIR:-$root/target}/sdk
programs=${IMPETUS_PROGRAMS:-${CARGO_TARGET_DIR:-$root/target}/debug}
limit_s=600

skip() {
    echo "SDK tests skipped: $1"
    exit 0
}

# Runs a command with a limit where the system has one.
limited() {
    if command -v timeout >/dev/null; then timeout "$limit_s" "$@"; else "$@"; fi
}

command -v python3 >/dev/null || skip "there is no python3"
python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || skip "python3 is older than 3.10 or has no venv"
command -v node >/dev/null && command -v npm >/dev/null || skip "there is no node or no npm"
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || skip "node is older than 20"
[ -x "$programs/impetusctl" ] || { echo "SDK tests: build first, there is no $programs/impetusctl"; exit 1; }

# The mark is the pinned list itself: a changed list installs anew.
mkdir -p "$cache"
if ! cmp -s "$here/requirements.txt" "$cache/requirements.txt"; then
    rm -rf "$cache/python"
    python3 -m venv "$cache/python" || skip "python3 cannot make a virtual environment"
    limited "$cache/python/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" >"$cache/pip.log" 2>&1 \
        || skip "the Python packages cannot be installed (see $cache/pip.log)"
    cp "$here/requirements.txt" "$cache/requirements.txt"
fi
if ! cmp -s "$here/package-lock.json" "$cache/node/installed.json"; then
    rm -rf "$cache/node" && mkdir -p "$cache/node"
    cp "$here/package.json" "$here/package-lock.json" "$cache/node/"
    (cd "$cache/node" && limited npm ci --no-audit --no-fund --ignore-scripts) >"$cache/npm.log" 2>&1 \
        || skip "the Node packages cannot be installed (see $cache/npm.log)"
    cp "$here/package-lock.json" "$cache/node/installed.json"
fi

home=$(mktemp -d "${TMPDIR:-/tmp}/impetus-sdk.XXXXXX")
export IMPETUS_HOME=$home
unset IMPETUS_SOCKET
ctl=$programs/impetusctl
end() {
    "$ctl" stop >/dev/null 2>&1
    rm -rf "$home"
}
trap end EXIT
trap 'exit 130' INT TERM

served=$(limited "$ctl" serve --detach --http 127.0.0.1:0 --json) || { echo "SDK tests: the service does not start: $served"; exit 1; }
IMPETUS_URL=$(sed -n 's/^ *"http": "\(.*\)",*$/\1/p' <<<"$served")
IMPETUS_KEY=$("$ctl" key show)
export IMPETUS_URL IMPETUS_KEY

limited "$cache/python/bin/python" -m unittest discover --start-directory "$here" --pattern 'test_*.py' --verbose >"$cache/python.log" 2>&1
python_code=$?
# Node resolves packages from the file's own folder, so the tests run beside the installed packages.
rm -f "$cache"/node/*.test.mjs && cp "$here"/*.test.mjs "$cache/node/"
(cd "$cache/node" && limited node --test --test-reporter=tap ./*.test.mjs) >"$cache/node.log" 2>&1
node_code=$?

"$here/schema/run.sh" "$cache"
schema_code=$?

# A warning within a test parts its name from its "ok", so those that ran are counted.
ran=$(sed -nE 's/^Ran ([0-9]+) tests? in .*/\1/p' "$cache/python.log" | tail -n 1)
broken=$(grep -cE '^(FAIL|ERROR): ' "$cache/python.log" || true)
tally() { sed -n "s/^# $1 //p" "$cache/node.log" | grep . || echo 0; }
passed=$(( ${ran:-0} - broken + $(tally pass) ))
failed=$(( broken + $(tally fail) ))
if [ "$python_code" -ne 0 ] || [ "$node_code" -ne 0 ] || [ "$schema_code" -ne 0 ]; then
    [ "$python_code" -eq 0 ] || tail -n 200 "$cache/python.log"
    [ "$node_code" -eq 0 ] || grep -vE '^ *(duration_ms|type|---|\.\.\.)' "$cache/node.log" | tail -n 200
    echo "$passed passed, $failed failed"
    exit 1
fi
echo "$passed passed, $failed failed"
