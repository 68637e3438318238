#!/usr/bin/env bash
# Measures this house beside its peer in one run: `benches/peers/run.sh peers|serving-peers|accuracy-peers [WORK…]`, where a WORK is the start
# of a row's name, as in `prefill` or `rate-16`; all of them otherwise. `make bench-peers` and `make bench-serving` call it. The
# first run builds the peer, which takes a quarter of an hour on two cores.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
peer=$(benches/peers/setup.sh)
cargo build --release --locked --quiet --workspace --bins
IMPETUS_PEER=$peer "${CARGO_TARGET_DIR:-target}/release/benches" "$@"
