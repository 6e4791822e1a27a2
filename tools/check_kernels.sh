#!/usr/bin/env bash
# Runs the tests of the CPU kernels under AddressSanitizer and UndefinedBehaviorSanitizer: Linux and GCC, with the
# Python that is active or that PYTHON names. Arguments go to pytest; without any, a thousand hostile calls of each
# operator are part of it.
#   bash tools/check_kernels.sh [-k nms ...]
# The sanitized library lies in build/sanitized alone; the one in use stays as it is. First three functions with an
# error each have to be caught. What PyTorch itself does is not watched, nor are leaks: Python never gives back all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT="$PWD"
PYTHON="${PYTHON:-python}"
CXX="${CXX:-c++}"
OUT="$ROOT/build/sanitized"
SANITIZERS=address,undefined,float-cast-overflow

# Exceptions are watched too, for which libstdc++ has to be there from the start.
preload=()
for name in libasan.so libubsan.so libstdc++.so.6; do
    library="$("$CXX" -print-file-name="$name")"
    [ -e "$library" ] || { echo "error: $CXX has no $name; GCC with its sanitizers is needed" >&2; exit 1; }
    preload+=("$library")
done

# run COMMAND...: with the sanitizers loaded. Sizes that no machine has are for the kernels to refuse.
run() {
    env LD_PRELOAD="${preload[*]}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" \
        ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:allocator_may_return_null=1 \
        UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "$@"
}

# catches FUNCTION MESSAGE: whether a call of a broken function ends the process with this message.
catches() {
    local said
    if said="$(run "$PYTHON" -c "import ctypes; ctypes.CDLL('$OUT/broken.so').$1(4)" 2>&1)" ||
        ! grep -q "$2" <<<"$said"; then
        printf 'error: the sanitizers do not catch %s; the process said:\n%s\n' "$1" "$said" >&2
        exit 1
    fi
    echo "caught: $1 ($2)"
}

rm -rf "$OUT"
mkdir -p "$OUT"
"$CXX" -shared -fPIC -g -O1 -fsanitize=$SANITIZERS -fno-sanitize-recover=all -x c++ - -o "$OUT/broken.so" <<'CPP'
#include <limits>
#include <vector>
extern "C" {
float beyond_the_end(int size) { return std::vector<float>(size).data()[size]; }
int too_large_a_sum(int number) { return std::numeric_limits<int>::max() + number; }
int cell_of_nan(int number) { return static_cast<int>(number * std::numeric_limits<float>::quiet_NaN()); }
}
CPP
catches beyond_the_end heap-buffer-overflow
catches too_large_a_sum "signed integer overflow"
catches cell_of_nan "outside the range of representable values"

FSDBEV_SANITIZE=$SANITIZERS "$PYTHON" setup.py --quiet build --build-lib "$OUT" --build-temp "$OUT-objects"
cd "$OUT" # the first place where Python looks
run "$PYTHON" -c 'import fsdbev.layers, os
assert fsdbev.layers.EXTENSION_BUILT and fsdbev.__file__.startswith(os.getcwd()), fsdbev.__file__'
[ $# -gt 0 ] || set -- --hypothesis-profile thorough
# No capture: what the sanitizers say would end with the process that they stop. nvcc does not run under them.
run "$PYTHON" -m pytest -c "$ROOT/pyproject.toml" -o pythonpath=build/sanitized -p no:faulthandler -p no:cacheprovider \
    --capture=no --quiet "$ROOT/tests/layers" --ignore "$ROOT/tests/layers/test_extension.py" "$@"
