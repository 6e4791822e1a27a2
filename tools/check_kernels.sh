#!/usr/bin/env bash
# Runs the tests of the CPU kernels under AddressSanitizer and UndefinedBehaviorSanitizer. Needs Linux and GCC; uses
# the active Python, or the one in PYTHON. Arguments are passed to pytest; without arguments each operator also gets a
# thousand calls with invalid arguments.
#   bash tools/check_kernels.sh [-k nms ...]
# The sanitized library is built in build/sanitized; the installed library is not changed. The script first checks that
# the sanitizers catch the errors of three broken functions. PyTorch itself is not instrumented. Leaks are not checked,
# since Python does not free all memory at exit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT="$PWD"
PYTHON="${PYTHON:-python}"
CXX="${CXX:-c++}"
OUT="$ROOT/build/sanitized"
SANITIZERS=address,undefined,float-cast-overflow

# libstdc++ is preloaded so that the sanitizers can intercept C++ exceptions.
preload=()
for name in libasan.so libubsan.so libstdc++.so.6; do
    library="$("$CXX" -print-file-name="$name")"
    [ -e "$library" ] || { echo "error: $CXX has no $name; GCC with its sanitizers is needed" >&2; exit 1; }
    preload+=("$library")
done

# run COMMAND...: runs the command with the sanitizers. Allocations of impossible sizes return null instead of ending
# the process, since the kernels must handle them.
run() {
    env LD_PRELOAD="${preload[*]}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" \
        ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:allocator_may_return_null=1 \
        UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "$@"
}

# catches FUNCTION MESSAGE: checks that a call of the broken function ends the process with this message.
catches() {
    local output
    if output="$(run "$PYTHON" -c "import ctypes; ctypes.CDLL('$OUT/broken.so').$1(4)" 2>&1)" ||
        ! grep -q "$2" <<<"$output"; then
        printf 'error: the sanitizers do not catch %s; output of the process:\n%s\n' "$1" "$output" >&2
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
cd "$OUT" # first on Python's path, so that the sanitized package is imported
run "$PYTHON" -c 'import fsdbev.layers, os
assert fsdbev.layers.EXTENSION_BUILT and fsdbev.__file__.startswith(os.getcwd()), fsdbev.__file__'
[ $# -gt 0 ] || set -- --hypothesis-profile thorough
# Without --capture=no, reports of the sanitizers would be lost with the process. nvcc cannot run under the sanitizers.
run "$PYTHON" -m pytest -c "$ROOT/pyproject.toml" -o pythonpath=build/sanitized -p no:faulthandler -p no:cacheprovider \
    --capture=no --quiet "$ROOT/tests/layers" --ignore "$ROOT/tests/layers/test_extension.py" "$@"
