"""Number of turns in which OpenMP's threads wait actively: a default of the package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: In place of torch: ends the import of a tool with the value that libgomp would read.
TORCH = "import os\nraise SystemExit(os.environ.get('GOMP_SPINCOUNT', 'not set'))\n"
RUN_TOOLS = """
import json, os, runpy, sys
values = {}
for tool in sys.argv[1:]:
    os.environ.pop("GOMP_SPINCOUNT", None)
    for name in list(sys.modules):
        if name.split(".")[0] in ("fsdbev", "benchmarks", "comparison", "command_line"):
            del sys.modules[name]
    try:
        runpy.run_path(tool, run_name="tool")
    except SystemExit as error:
        values[os.path.basename(tool)] = error.code
print(json.dumps(values))
"""


def _run(script: str, *arguments: str, path: str = "", **variables: str) -> str:
    ours = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environ = {k: v for k, v in os.environ.items() if k not in ours} | variables
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (path, str(ROOT), str(ROOT / "tools"))))
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_every_tool_sets_it_before_torch_is_loaded(tmp_path):
    (tmp_path / "torch.py").write_text(TORCH)
    # convert_checkpoint computes nothing.
    tools = {str(p) for p in (ROOT / "tools").glob("*.py")} - {
        str(ROOT / "tools/convert_checkpoint.py")
    }
    values = json.loads(_run(RUN_TOOLS, *sorted(tools), path=str(tmp_path)))
    assert len(values) > 8 and set(values.values()) == {"30000"}, values


@pytest.mark.parametrize(
    "variables, value",
    [({}, "30000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_values_of_the_user_are_kept(variables, value):
    script = "import fsdbev, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert _run(script, **variables) == value
