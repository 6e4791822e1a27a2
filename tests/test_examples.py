"""The notebooks of examples/ run from the first to the last cell in a new kernel."""

import os
from pathlib import Path

import pytest

from fsdbev.data.nuscenes.prepare import prepare_nuscenes
from fsdbev.data.synthetic import SyntheticOptions, generate

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """Output folder of a quick start before the training."""
    folder = tmp_path_factory.mktemp("quickstart")
    options = SyntheticOptions(scenes_train=0, scenes_val=1, frames=2, lidar_azimuths=64)
    generate(folder / "data", options)
    prepare_nuscenes(dataroot=folder / "data", version="v1.0-synth", splits=["synth_val"])
    return folder


@pytest.fixture
def environment(quickstart, tmp_path, monkeypatch):
    monkeypatch.setenv("FSDBEV_QUICKSTART", str(quickstart))
    paths = (str(ROOT), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))


assert NOTEBOOKS


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, environment):
    notebook = read(path)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/jpeg" in output.get("data", {})
    ]
    assert len(pictures) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_with_outputs_and_without_local_paths(path):
    notebook = read(path)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    assert not any("execution" in cell.metadata for cell in code)
    text = path.read_text()
    assert "/home/" not in text and "/root/" not in text and len(text) < 600_000
