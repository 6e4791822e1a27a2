#!/usr/bin/env bash
# Installs the test dependencies into .venv and runs the tests. Arguments are passed to pytest.
#   bash tools/run_tests.sh [tests/layers -k nms ...]     (-n 0: in one process)
#   bash tools/run_tests.sh --slow                        only the slow tests
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment test,docs
cd "$ROOT"
# One process per core, up to four, each with one thread. Tests of a file share its fixtures, so they stay in a process.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
