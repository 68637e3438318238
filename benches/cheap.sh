#!/usr/bin/env bash
# Measures with wrk how many cheap requests a server answers in a second, and how soon: what asks no model.
#   benches/cheap.sh                          a service of our own, started for it (release build)
#   benches/cheap.sh BASE_URL [KEY] [PATH…]   any server, as llama-server; with an empty KEY it is asked without one
# Prints rows of a table. SECONDS_EACH (5) and CONNECTIONS (16) may be set; one thread asks.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
seconds=${SECONDS_EACH:-5} connections=${CONNECTIONS:-16}
command -v wrk >/dev/null || { echo "cheap.sh: there is no wrk; Debian has it as a package" >&2; exit 1; }

url=${1:-} key=${2:-}
shift $(($# < 2 ? $# : 2))
paths=("$@")
if [ -z "$url" ]; then
    programs=${CARGO_TARGET_DIR:-$root/target}/release
    IMPETUS_HOME=$(mktemp -d)
    export IMPETUS_HOME
    trap '"$programs/impetusctl" stop >/dev/null 2>&1; rm -rf "$IMPETUS_HOME"' EXIT
    url=$("$programs/impetusctl" serve --detach --http 127.0.0.1:0 --json | sed -n 's/^ *"http": "\(.*\)",*$/\1/p')
    key=$("$programs/impetusctl" key show)
fi
[ "${#paths[@]}" -gt 0 ] || paths=(/health /v1/models)

headers=()
[ -z "$key" ] || headers=(-H "Authorization: Bearer $key")
echo "| GET, $connections connections | requests/s | p50 | p99 | not 2xx |"
echo "|---|---|---|---|---|"
for path in "${paths[@]}"; do
    wrk -t1 -c"$connections" -d"${seconds}s" --latency "${headers[@]}" "$url$path" | awk -v path="$path" '
        $1 == "50%" { half = $2 } $1 == "99%" { most = $2 }
        /Non-2xx/ { failed = $NF } /Socket errors/ { broken = $0 } $1 == "Requests/sec:" { rate = $2 }
        END { printf "| %s | %d | %s | %s | %d%s |\n", path, rate, half, most, failed, broken }'
done
