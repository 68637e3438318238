#!/usr/bin/env bash
# Makes the `mlx` feature of the engine build and run on Linux x86_64, against MLX's CPU library as PyPI has it.
#
# Needs g++ 12 or later, python3 with venv, cargo and the registries; no root. Writes target/mlx-linux: a Python environment
# with the library, mlx-c as one archive, its Rust bindings, and config.toml, which takes the place of mlx-sys's build
# script. With all in place it takes a fraction of a second. `tools/mlx-linux/test.sh` calls it; by hand:
#   tools/mlx-linux/setup.sh && cargo --config target/mlx-linux/config.toml build -p engine --features mlx
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
out=${MLX_LINUX_DIR:-${CARGO_TARGET_DIR:-$root/target}/mlx-linux}

fail() { echo "$1" >&2; exit 1; }
[ "$(uname -sm)" = "Linux x86_64" ] || fail "this is not Linux on x86_64"
command -v "${CXX:-g++}" >/dev/null || fail "there is no ${CXX:-g++}"
python3 -c 'import venv, ensurepip' 2>/dev/null || fail "there is no python3 with venv"
mkdir -p "$out"
out=$(cd "$out" && pwd)

# The C library's sources, and the version of MLX that they are for, are those of the mlx-sys in Cargo.lock.
manifest=$(cd "$root" && cargo metadata --format-version 1 --locked --features engine/mlx \
    --filter-platform x86_64-unknown-linux-gnu 2>"$out/cargo.log" |
    python3 -c 'import json, sys; print(*(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "mlx-sys"))') ||
    fail "cargo cannot fetch mlx-sys (see $out/cargo.log)"
source=$(dirname "$manifest")/src/mlx-c
version=$(sed -n 's/.*GIT_TAG v\([0-9.]*\).*/\1/p' "$source/CMakeLists.txt")
stamp="$version $source $(cat "$here"/*.h "$here"/*.cpp "$here/setup.sh" "$here/bindgen/src/main.rs" | sha256sum)"
[ "$(cat "$out/stamp" 2>/dev/null)" != "$stamp" ] || exit 0
echo "mlx-linux: setting up MLX $version, once; this takes a few minutes"

python3 -m venv "$out/venv"
"$out/venv/bin/pip" install -q --disable-pip-version-check "mlx==$version" "mlx-cpu==$version" libclang==18.1.1 \
    >"$out/pip.log" 2>&1 || fail "pip cannot install MLX $version (see $out/pip.log)"
site=$("$out/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')

# Every source of mlx-c, and what is missing, into one archive.
rm -rf "$out/objects" "$out/libmlxc.a"
mkdir -p "$out/objects"
compile() {
    "${CXX:-g++}" -std=c++20 -O1 -fPIC -include "$here/format_compat.h" "-I$site/mlx/include" "-I$source" \
        -c "$1" -o "$out/objects/$(basename "$1" .cpp).o"
}
export -f compile
export here site source out
printf '%s\0' "$source"/mlx/c/*.cpp "$here/linux_compat.cpp" |
    xargs -0 -P "${JOBS:-$(nproc)}" -I{} bash -c 'compile {}' >"$out/compile.log" 2>&1 ||
    fail "mlx-c does not compile (see $out/compile.log)"
ar rcs "$out/libmlxc.a" "$out"/objects/*.o

LIBCLANG_PATH=$site/clang/native cargo run -q --locked --manifest-path "$here/bindgen/Cargo.toml" \
    --target-dir "$out/bindgen" -- "$source" "$out/bindings.rs" "-I$("${CXX:-g++}" -print-file-name=include)" \
    >"$out/bindgen.log" 2>&1 || fail "the bindings cannot be made (see $out/bindgen.log)"

# This table takes the place of mlx-sys's build script, which knows macOS only. The library is found at run time through
# LD_LIBRARY_PATH, not through a linker flag: a flag would build the whole house again.
cat >"$out/config.toml" <<CONFIG
[target.x86_64-unknown-linux-gnu.mlx]
rustc-link-search = ["native=$out", "native=$site/mlx/lib"]
rustc-link-lib = ["static=mlxc", "dylib=mlx", "dylib=stdc++"]
rustc-env = { OUT_DIR = "$out" }
CONFIG
ln -sfn "$site/mlx/lib" "$out/lib"
echo "$stamp" >"$out/stamp"
