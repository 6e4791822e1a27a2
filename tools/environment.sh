# Sets up the virtual environment .venv with the project installed; sourced by quickstart.sh and run_tests.sh.
# PYTHON selects the interpreter (3.10 to 3.12), VENV another folder.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"

# Prints a checksum of all files that an installation depends on, and of the Python version. The environment is
# installed again when it changes.
environment_stamp() {
    (cd "$ROOT" && cat setup.py pyproject.toml constraints.txt tools/environment.sh \
        $(find fsdbev/layers/csrc -type f | LC_ALL=C sort)
        "$1" --version) | cksum
}

# prepare_environment [EXTRAS]: creates .venv, installs the pinned dependencies and builds the extension; does nothing
# if the environment is up to date. EXTRAS, such as test,docs, are optional dependencies of pyproject.toml.
prepare_environment() {
    local base="${PYTHON:-python3}" extras="${1:-}" stamp done_file="$VENV/.fsdbev-stamp"
    # Python compiles the modules that are imported; pip would compile all of them, for half a minute. So that no process
    # compiles them again, for four seconds, Python must be allowed to write them.
    unset PYTHONDONTWRITEBYTECODE
    local install=("$VENV/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check)
    if ! "$base" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'; then
        echo "error: $base is $("$base" --version 2>&1); Python 3.10 to 3.12 is needed (set PYTHON=...)" >&2
        return 1
    fi
    stamp="$(environment_stamp "$base")"
    if [ "$(head -n 1 "$done_file" 2>/dev/null)" != "$stamp" ]; then
        "$base" -m venv "$VENV"
        # PyTorch first: the extension is compiled against it, so the build must not be isolated.
        "${install[@]}" -c "$ROOT/constraints.txt" torch setuptools wheel ninja
        (cd "$ROOT" && "${install[@]}" -c constraints.txt --no-build-isolation -e ".${extras:+[$extras]}")
        printf '%s\n' "$stamp" "extras: $extras" >"$done_file"
    elif [ -n "$extras" ] && ! grep -qxF "extras: $extras" "$done_file"; then
        # The project is installed already, so this installs only the extras.
        "${install[@]}" -c "$ROOT/constraints.txt" "fsdbev[$extras]"
        echo "extras: $extras" >>"$done_file"
    fi
    export PATH="$VENV/bin:$PATH"
}
