#!/usr/bin/env bash
# Puts libtorch into a cache outside the checkout and links `.libtorch` to it.
#
# The pinned wheels come through pip (any Python 3), are checked against their hashes, and about
# half a gigabyte of them is unpacked: headers, libtorch_cpu, libc10, libgomp and the two CUDA
# libraries that libtorch_cpu links to.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$top/src/libtorch
cache=${UNDERSTUDY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/understudy}

fail() {
    printf 'setup: %s\n' "$1" >&2
    printf 'setup: without libtorch, everything runs on the pure-Rust backend: add --no-default-features to cargo\n' >&2
    exit 1
}
need() { command -v "$1" >/dev/null || fail "$1 is missing; install it, for example: $2"; }

[ "$(uname -sm)" = "Linux x86_64" ] || fail "libtorch is fetched for Linux on x86-64 only, this is $(uname -sm)"
need c++ "apt-get install g++"
need python3 "apt-get install python3 python3-pip"
python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip; install it, for example: apt-get install python3-pip"

# The folder's name changes with everything that decides its content.
key=$(cat "$here/wheels.txt" "$here/cuda_stub.cpp" "$here/fetch.sh" | sha256sum | cut -c1-12)
home=$cache/libtorch-2.11.0-$key

if [ ! -e "$home/complete" ]; then
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "setup: fetching libtorch 2.11.0 (530 MB, once per machine)"
    # The platform tags name the wheels, not this machine: the choice is the same for every Python.
    python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 \
        --platform manylinux2014_x86_64 --python-version 3.12 --implementation cp --abi cp312 --abi none \
        --require-hashes --requirement "$here/wheels.txt" --dest "$work/wheels" ||
        fail "pip could not download libtorch; its message stands above"
    python3 - "$work/wheels" "$work/libtorch" <<'PY'
import pathlib, re, sys, zipfile

wheels, out = map(pathlib.Path, sys.argv[1:])
keep = re.compile(
    r"torch/include/.+|torch/lib/(?:libtorch_cpu\.so|libc10\.so|libgomp.*)"
    r"|nvidia/cu13/lib/(?:libcudart|libcupti)\.so.*"
)
for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith("/") or not keep.fullmatch(name):
                continue
            inner = name.removeprefix("torch/") if name.startswith("torch/") else "lib/" + name.rsplit("/", 1)[1]
            target = out / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, open(target, "wb") as sink:
                while block := source.read(1 << 20):
                    sink.write(block)
PY
    rm -rf "$work/wheels"
    # The wheel's own libtorch.so links to libtorch_cuda.so; this linker script stands in for it.
    echo 'INPUT(-ltorch_cpu)' >"$work/libtorch/lib/libtorch.so"
    c++ -shared -fPIC -O1 -Wl,-soname,libtorch_cuda.so -o "$work/libtorch/lib/libtorch_cuda.so" "$here/cuda_stub.cpp"
    touch "$work/libtorch/complete"
    # Another set-up may have finished first: its folder is as good as ours.
    mv -T "$work/libtorch" "$home" 2>/dev/null || [ -e "$home/complete" ] || fail "cannot write to $cache"
fi

if [ "$(readlink "$top/.libtorch" 2>/dev/null)" != "$home" ]; then
    ln -sfn "$home" "$top/.libtorch"
    echo "setup: .libtorch -> $home"
fi
