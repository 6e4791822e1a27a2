#!/usr/bin/env bash
# Installs what the tests need into .venv and runs them; arguments go to pytest.
#   bash tools/run_tests.sh [tests/layers -k nms ...]     (-n 0: in one process)
#   bash tools/run_tests.sh --slow                        only the tests that take long
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment test,docs
cd "$ROOT"
# A process a core, up to four, each with one thread; a file's tests share what they set up.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
