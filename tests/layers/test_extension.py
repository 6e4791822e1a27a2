"""The layers without the compiled extension, and the compilation of the CUDA kernels."""

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

ROOT = Path(__file__).parents[2]
CUDA_SOURCES = sorted((ROOT / "fsdbev" / "layers" / "csrc" / "cuda").glob("*.cu"))

WITHOUT_EXTENSION = """
import sys, warnings
sys.modules["fsdbev.layers._C"] = None  # importing it fails, as if it had not been built
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch
    import fsdbev
    from fsdbev import layers
    ours = lambda: [str(w.message) for w in caught if "fsdbev" in str(w.message)]
    assert not layers.EXTENSION_BUILT and not ours(), ours()
    boxes = torch.tensor([[0.0, 0, 2, 2, 0], [0.1, 0, 2, 2, 0]])
    for _ in range(2):
        assert layers.rotated_nms(boxes, torch.tensor([0.1, 0.2]), 0.2).tolist() == [1]
        assert layers.circle_nms(boxes[:, :2], torch.tensor([0.1, 0.2]), 1.0).tolist() == [1]
        assert layers.rotated_iou(boxes, boxes)[0, 0] == 1
    weights = torch.full((1, 1, 1, 1, 1), 0.5, requires_grad=True)
    frustum = layers.Frustum(
        image_size=(1, 1), depth_start=0.5, depth_step=1.0, lower=(0.0, 0.0, 0.0),
        size=(1.0, 1.0, 1.0), count=(2, 1, 1))
    geometry = dict(
        undo_image_aug=torch.eye(4)[None], image2bev=torch.eye(4)[None], view=torch.tensor([0]),
        frustum=frustum)
    cells = layers.frustum_cells(**geometry, num_bins=1, feature_size=(1, 1))
    assert cells.flatten().tolist() == [0]
    bev = layers.lift_splat(
        weights, torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 3.0), **geometry,
        output=torch.tensor([0]), num_outputs=1, depth_threshold=0.1, foreground_threshold=0.1)
    bev.sum().backward()
    assert bev.flatten().tolist() == [1.5, 0] and weights.grad.item() == 3
    peaks = layers.draw_gaussians(
        torch.tensor([[1, 1]]), torch.tensor([1]), torch.tensor([0]), planes=1, shape=(3, 3))
    assert peaks[0, 1, 1] == 1
    heatmap = layers.elliptical_heatmaps(
        torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([0]), torch.tensor([0]), torch.eye(4)[None],
        torch.tensor([[8, 8]]), num_classes=1, image_size=(8, 8), stride=4)
    assert heatmap.shape == (1, 1, 2, 2) and heatmap.max() > 0.5
    assert len(ours()) == 1, ours()
    assert "pip install -e . --no-build-isolation" in ours()[0], ours()
"""


def cxx_standard():
    """Returns the C++ standard of this PyTorch's extensions, which no attribute contains."""
    return re.search(r"-std=c\+\+\d+", inspect.getsource(cpp_extension)).group()


def test_without_the_extension_references_are_used_with_one_warning():
    command = [sys.executable, "-c", WITHOUT_EXTENSION]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
@pytest.mark.parametrize("source", CUDA_SOURCES, ids=lambda path: path.name)
def test_cuda_kernels_compile(source, tmp_path):
    """Device code for compute capabilities 7.5 to 9.0; host code is checked, not generated.

    Sources distinguish capability 9.0 only, so one or two runs of the front end cover all.
    """
    include = Path(torch.__file__).parent / "include"
    command = ["nvcc", "-fatbin", str(source), "-o", str(tmp_path / "kernels.fatbin")]
    command += [f"-I{include}", f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}"]
    if "__CUDA_ARCH__" in source.read_text():
        command += ["-gencode=arch=compute_75,code=[sm_75,sm_80,sm_86,sm_89]"]
        command += ["-gencode=arch=compute_90,code=sm_90", "--threads=2"]
    else:
        command += ["-gencode=arch=compute_75,code=[sm_75,sm_80,sm_86,sm_89,sm_90]"]
    command += [*cpp_extension.COMMON_NVCC_FLAGS, cxx_standard(), "--fmad=false"]
    if torch.version.cuda is None:  # headers of a CPU build lack the file that CMake writes
        command.append("-DC10_CUDA_NO_CMAKE_CONFIGURE_FILE")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


def test_cuda_sources_distinguish_capability_9_only():
    folder = ROOT / "fsdbev" / "layers" / "csrc"
    texts = [path.read_text() for pattern in ("*.h", "cuda/*") for path in folder.glob(pattern)]
    uses = [use for text in texts for use in re.findall(r"__CUDA_ARCH__ *[<>=]+ *\d+", text)]
    assert uses and {use.split()[-1] for use in uses} == {"900"}
