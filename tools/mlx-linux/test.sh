#!/usr/bin/env bash
# Runs the engine's tests of the MLX machine on Linux, against MLX's CPU library. Called by `make test`.
# Where the library cannot be set up it says why and passes: nothing else needs it.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
out=${MLX_LINUX_DIR:-$target/mlx-linux}
limit_s=900

skip() {
    echo "MLX tests skipped: $1"
    exit 0
}

limited() {
    if command -v timeout >/dev/null; then timeout "$limit_s" "$@"; else "$@"; fi
}

mkdir -p "$target"
limited "$here/setup.sh" 2>"$target/mlx-setup.log" || skip "$(tail -n 1 "$target/mlx-setup.log")"
cd "$root" || exit 1
# A crate that takes the place of a build script is not seen to change; what is made anew is built anew.
if ! cmp -s "$out/stamp" "$out/built"; then
    cargo clean -q -p mlx-sys 2>/dev/null
    cp "$out/stamp" "$out/built"
fi
LD_LIBRARY_PATH=$out/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
    cargo --config "$out/config.toml" test -q --locked -p engine --features mlx --lib --test goldens mlx
