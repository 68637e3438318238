#!/usr/bin/env bash
# Fetches and builds the peer that `make bench-peers` measures beside this house, once: llama.cpp, out of the source package
# of llama-cpp-python on PyPI, with every instruction this processor has. Prints the folder of its programs.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
version=0.3.36
place=${CARGO_TARGET_DIR:-$root/target}/peers/llama-$version
programs=(llama-bench llama-batched-bench llama-server)

missing=0
for program in "${programs[@]}"; do [ -x "$place/build/bin/$program" ] || missing=1; done
if [ "$missing" = 1 ]; then
    command -v python3 >/dev/null && command -v make >/dev/null && command -v c++ >/dev/null ||
        { echo "setup.sh: python3, make and a C++ compiler are needed" >&2; exit 1; }
    mkdir -p "$place"
    {
        [ -x "$place/python/bin/cmake" ] || {
            python3 -m venv "$place/python"
            "$place/python/bin/pip" install --quiet --disable-pip-version-check cmake scikit-build-core
        }
        # The Python package itself is not built: only the llama.cpp tree inside it is wanted.
        [ -d "$place/source" ] || {
            "$place/python/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
                --no-build-isolation --dest "$place" "llama-cpp-python==$version"
            mkdir -p "$place/unpacked"
            tar -xzf "$place/llama_cpp_python-$version.tar.gz" -C "$place/unpacked" --strip-components 1
            mv "$place/unpacked/vendor/llama.cpp" "$place/source"
            rm -rf "$place/unpacked"
            # gcc 12 drops most of what the tile unit's set-up reads, and the first product on a processor with AMX is illegal.
            sed -i 's|^    _tile_loadconfig(&tc);|    __asm__ volatile("" : : "r"(\&tc) : "memory");\n&|' \
                "$place/source/ggml/src/ggml-cpu/amx/mmq.cpp"
        }
        "$place/python/bin/cmake" -S "$place/source" -B "$place/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
            -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
            -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF
        "$place/python/bin/cmake" --build "$place/build" --parallel "$(getconf _NPROCESSORS_ONLN)" --target "${programs[@]}"
    } >"$place/setup.log" 2>&1 || { echo "setup.sh: llama.cpp could not be built, see $place/setup.log" >&2; exit 1; }
fi
echo "$place/build/bin"
