#!/usr/bin/env bash
# bootstrap.sh run|test: makes sure that a machine with nothing but Rust has what `make run` or `make test` needs, and
# says what to do where it cannot help. On Debian and Ubuntu it installs what is missing when it is root. With all in
# place it takes a few hundredths of a second.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

purpose=${1:-test}
problems=()

# works COMMAND… is true when the command runs and succeeds.
works() { "$@" >/dev/null 2>&1; }

# builds is true when there is make and a C compiler with the system's headers; SQLite is compiled, every program linked.
builds() {
    works command -v make || return
    # On a Mac without the developer tools cc is a stub that opens a window.
    if [ "$(uname -s)" = Darwin ]; then works xcode-select -p; else works cc -E -include stdio.h -x c /dev/null; fi
}

# has_python is true when there is a Python; the tests of the protocol run its example client.
has_python() { [ "$purpose" = run ] || works command -v python3; }

# at_least HAVE WANTED compares two versions such as 1.95.0 and 1.95.
at_least() {
    local -a left right
    IFS=. read -r -a left <<<"${1%%-*}"
    IFS=. read -r -a right <<<"$2"
    for at in 0 1 2; do
        [ "${left[at]:-0}" -eq "${right[at]:-0}" ] || { [ "${left[at]:-0}" -gt "${right[at]:-0}" ]; return; }
    done
}

# check_rust notes a problem when there is no Rust, or an old one, or a part of it is missing.
check_rust() {
    local wanted have=
    while read -r key _ value; do
        if [ "$key" = rust-version ]; then wanted=${value//\"/}; break; fi
    done <Cargo.toml
    if ! works command -v cargo || ! have=$(rustc --version 2>/dev/null); then
        problems+=("Rust is missing: install rustup as https://rustup.rs says, then open a new shell")
        return
    fi
    have=${have#rustc }
    have=${have%% *}
    at_least "$have" "$wanted" ||
        problems+=("Rust $have is too old, Impetus needs $wanted: rustup update stable && rustup default stable")
    # rustup puts every command on the path, with or without what it stands for.
    local bin
    bin=$(rustc --print sysroot)/bin
    [ "$purpose" = run ] || { [ -x "$bin/cargo-clippy" ] && [ -x "$bin/rustfmt" ]; } ||
        problems+=("clippy or rustfmt is missing: rustup component add clippy rustfmt")
}

# install_packages brings make, a C compiler and Python, or says which command does.
install_packages() {
    local -a packages=(build-essential python3)
    if [ "$(uname -s)" = Darwin ]; then
        problems+=("the developer tools are missing: xcode-select --install")
    elif ! works command -v apt-get; then
        problems+=("make, a C compiler with its headers, or python3 is missing: install all three with this system's package manager")
    elif [ "$(id -u)" != 0 ]; then
        problems+=("packages are missing: sudo apt-get update && sudo apt-get install -y --no-install-recommends ${packages[*]}")
    else
        echo "bootstrap: installing ${packages[*]}"
        export DEBIAN_FRONTEND=noninteractive
        { apt-get -qq update && apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null; } ||
            problems+=("apt-get could not install ${packages[*]}: see its message above")
    fi
}

{ builds && has_python; } || install_packages
check_rust
if [ ${#problems[@]} -gt 0 ]; then
    printf 'bootstrap: %s\n' "${problems[@]}" >&2
    exit 1
fi
