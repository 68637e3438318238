#!/usr/bin/env bash
# make check-macos: type-checks and lints the whole workspace for macOS on Apple silicon; a warning fails it.
#   check.sh [-p CRATE]   On macOS: the installed toolchain. On Linux: the rustup target aarch64-apple-darwin where it
#                         is installed, else Debian's compiler and library sources, unpacked under target/darwin-check.
#   check.sh --self-test  Proves again that a misspelt Darwin symbol fails, as the first check with a toolchain does.
# It installs nothing on the machine. C code of dependencies becomes empty objects on Linux: this checks types and
# never links. Where no Darwin toolchain can be had it says so and succeeds, except under CI=true.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target=aarch64-apple-darwin
tools=$PWD/tools/darwin-check
cache=$PWD/target/darwin-check
rust_version=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml | head -1)
packages_debian=(rustc-web rust-web-src rust-web-clippy)

say() { echo "check-macos: $*"; }

# skip REASON ends the check on a machine that has no Darwin toolchain and cannot get one.
skip() {
    echo "check-macos skipped: $*; to check here: rustup target add $target"
    [ "${CI:-}" != true ] || { echo "check-macos: with CI=true a skipped check is a failure" >&2; exit 1; }
    exit 0
}

# at_least HAVE WANTED compares versions.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -1)" = "$2" ]; }

# apt runs apt-get on lists and archives of our own: no root, nothing of the machine's changes.
apt() {
    apt-get -qq -o Dir::State::Lists="$cache/apt/lists" -o Dir::Cache="$cache/apt/cache" -o APT::Sandbox::User= -o APT::Update::Error-Mode=any \
        -o Acquire::Retries=2 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 "$@"
}

# unpack_debian fetches a compiler, its linter and the library sources of exactly its version into $cache/toolchain.
unpack_debian() {
    command -v apt-get >/dev/null || skip "no Darwin target in rustup, and this is no Debian"
    say "fetching Debian's compiler and library sources (once, about 105 MB)"
    rm -rf "$cache/toolchain" "$cache/apt" "$cache/target" "$cache/self-test-passed"
    mkdir -p "$cache/toolchain" "$cache/apt/lists/partial" "$cache/apt/cache/archives/partial"
    apt update 2>"$cache/apt/log" || skip "the Debian mirror did not answer ($(tail -1 "$cache/apt/log"))"
    local offered
    local -a missing
    offered=$(apt-cache -o Dir::State::Lists="$cache/apt/lists" -o Dir::Cache="$cache/apt/cache" policy rustc-web |
        sed -n 's/^ *Candidate: \([0-9.]*\).*/\1/p')
    at_least "${offered:-0}" "$rust_version" ||
        skip "no Darwin target in rustup, and this Debian offers Rust ${offered:-not at all}, not $rust_version"
    # What an installation would bring in, with all that this machine lacks, is downloaded and only unpacked.
    mapfile -t missing < <(apt -s install --no-install-recommends "${packages_debian[@]}" | awk '$1 == "Inst" { print $2 }')
    (cd "$cache/apt" && apt download "${missing[@]}") 2>"$cache/apt/log" ||
        skip "the download failed ($(tail -1 "$cache/apt/log"))"
    for package in "$cache"/apt/*.deb; do dpkg -x "$package" "$cache/toolchain"; done
    # Only the library's sources are read; the compiler's own are 350 MB.
    rm -rf "$cache/apt" "$cache"/toolchain/usr/src/rustc-*/{compiler,src}
    echo "$offered" >"$cache/toolchain/version"
}

# choose_toolchain sets clippy and rustc to the commands that lint and compile for Darwin.
choose_toolchain() {
    export SDKROOT=$cache CARGO_TARGET_DIR=$cache/target
    export CC_aarch64_apple_darwin=$tools/cc CXX_aarch64_apple_darwin=$tools/cc AR_aarch64_apple_darwin=$tools/ar
    if compgen -G "$(rustc --print target-libdir --target $target)/libstd-*" >/dev/null; then
        toolchain="$(rustc --version)"
        rustc=(rustc --target "$target")
        clippy=(cargo clippy --target "$target")
        return
    fi
    at_least "$(cat "$cache/toolchain/version" 2>/dev/null || echo 0)" "$rust_version" || unpack_debian
    local usr=$cache/toolchain/usr
    CARGO=$(rustup which cargo 2>/dev/null || command -v cargo)
    export CARGO RUSTC=$usr/bin/rustc RUSTC_BOOTSTRAP=1 PATH=$usr/bin:$PATH
    LD_LIBRARY_PATH=$(printf '%s:' "$usr"/lib/*-linux-gnu)
    export LD_LIBRARY_PATH
    toolchain="$($RUSTC --version), with its library built from source"
    rustc=("$RUSTC" --target "$target" -L "dependency=$cache/target/$target/debug/deps")
    clippy=("$usr/bin/cargo-clippy" clippy "-Zbuild-std=std,panic_abort,test" --target "$target")
}

# probe SYMBOL compiles a crate that names SYMBOL of the standard library's Darwin part.
probe() {
    local -a built=("$cache/target/$target"/debug/deps/libstd-*.rlib) library=()
    # After a change of profiles there are several; the newest is the one just used.
    for file in "${built[@]}"; do
        [ ! -e "$file" ] || { [ ${#library[@]} -gt 0 ] && [ ! "$file" -nt "${library[1]#std=}" ]; } ||
            library=(--extern "std=$file")
    done
    "${rustc[@]}" "${library[@]}" --edition 2024 --crate-type lib --emit metadata -o "$cache/probe.rmeta" - \
        >"$cache/probe.log" 2>&1 <<X
use std::os::darwin::fs::MetadataExt;
pub fn birth(of: &std::fs::Metadata) -> i64 {
    of.$1()
}
X
}

# self_test expects the right spelling to pass and the wrong one to fail by its name.
self_test() {
    local wrong=
    probe st_birthtime || wrong="a right symbol was refused"
    if [ -z "$wrong" ] && { probe st_birthtimme || ! grep -q "no method named .st_birthtimme." "$cache/probe.log"; }; then
        wrong="a misspelt symbol was not noticed"
    fi
    [ -z "$wrong" ] || { cat "$cache/probe.log" >&2; say "self-test FAILED: $wrong" >&2; exit 1; }
    echo "$toolchain" >"$cache/self-test-passed"
    say "self-test passed: a misspelt Darwin symbol fails"
}

case "${1:-}" in
"") packages=(--workspace) ;;
--self-test) packages=(-p impetus-launchd) ;;
*) packages=("$@") ;;
esac
if [ "$(uname -s)" = Darwin ]; then
    say "linting ${packages[*]} with the installed toolchain"
    exec cargo clippy "${packages[@]}" --all-targets -- -D warnings
fi
mkdir -p "$cache"
# Two checks at once would unpack into the same folder.
exec 9>"$cache/lock"
flock 9
choose_toolchain
[ "${1:-}" != --self-test ] || rm -f "$cache/self-test-passed"
say "linting ${packages[*]} for $target ($toolchain)"
"${clippy[@]}" "${packages[@]}" --all-targets -- -D warnings
[ "$(cat "$cache/self-test-passed" 2>/dev/null)" = "$toolchain" ] || self_test
say "passed in $SECONDS s"
