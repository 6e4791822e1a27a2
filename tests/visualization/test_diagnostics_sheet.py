"""The diagnostics sheet: sizes, colours and places of its maps."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from drawing import CAM2EGO, INTRINSICS

from fsdbev.structures import BEVGrid, Boxes3D, LabelledBoxes
from fsdbev.visualization import CameraDiagnostics, CameraView, Diagnostics, diagnostics_sheet


def camera(**maps):
    view = CameraView("CAM", np.full((100, 200, 3), 90, np.uint8), CAM2EGO, INTRINSICS)
    maps = {"depth": 5.0, "foreground": 0.0, "attention": 0.0} | maps
    maps = {n: np.full((4, 8), v) if isinstance(v, float) else v for n, v in maps.items()}
    return CameraDiagnostics(view, **maps)


def diagnostics(*cameras, **changes):
    boxes = Boxes3D(torch.tensor([[10.0, 5, 0, 4, 2, 2, 0, 3, 0]]))
    labels = torch.zeros(1, dtype=torch.int64)
    default = Diagnostics(
        title="scene",
        cameras=list(cameras) or [camera()],
        grid=BEVGrid(x_range=(-20, 20), y_range=(-20, 20), cell=2.0),
        depth_range=(1.0, 60.0),
        class_names=("tram",),
        detections=LabelledBoxes(boxes, labels, torch.tensor([0.5])),
        truth=LabelledBoxes(boxes, labels),
        student_bev=np.zeros((20, 20)),
        teacher_bev=np.zeros((20, 20)),
        heatmap=np.full((20, 20), 0.01),
    )
    return replace(default, **changes)


def changed(first, second):
    """Returns rows and columns of the pixels that differ, as fractions of the image size."""
    assert first.shape == second.shape
    different = np.abs(first.astype(int) - second).max(axis=-1) > 30
    rows, columns = np.nonzero(different)
    return rows / first.shape[0], columns / first.shape[1]


@pytest.fixture(scope="module")
def sheet():
    return diagnostics_sheet(diagnostics())


def test_size_depends_on_the_available_maps_only(sheet):
    assert sheet.dtype == np.uint8 and sheet.shape[1:] == (1980, 3)
    nothing = LabelledBoxes(Boxes3D(torch.zeros(0, 9)), torch.zeros(0, dtype=torch.int64))
    other = diagnostics_sheet(diagnostics(camera(depth=30.0), detections=nothing, truth=None))
    assert other.shape == sheet.shape
    assert diagnostics_sheet(diagnostics(camera(), camera())).shape[0] > sheet.shape[0]
    fewer = diagnostics_sheet(diagnostics(camera(foreground=None), teacher_bev=None))
    assert fewer.shape[1] == 1980, "fewer columns, the same width"


def test_color_and_position_of_depth(sheet):
    depth = np.full((4, 8), 5.0)
    depth[:, 4:] = 55.0
    step = diagnostics_sheet(diagnostics(camera(depth=depth)))
    rows, columns = changed(sheet, step)
    assert 0.375 - 0.01 < columns.min() < columns.max() < 0.5 + 0.01, "right half of column 2"
    spot = step[round(sheet.shape[0] * np.median(rows)), round(1980 * 0.44)] / 255
    expected = np.array(matplotlib.colormaps["viridis_r"](55 / 60)[:3])
    assert np.abs(spot - (0.75 * expected + 0.25 * 0.55 * 90 / 255)).max() < 0.03


def test_heat_maps_are_transparent_at_zero(sheet):
    heat = np.zeros((4, 8))
    heat[:2] = 1.0
    rows, columns = changed(
        sheet, diagnostics_sheet(diagnostics(camera(foreground=heat, attention=heat)))
    )
    for first in (0.5, 0.75):
        panel = (columns > first) & (columns < first + 0.25)
        in_map = panel & (columns > first + 0.005) & (columns < first + 0.24) & (rows > 0.09)
        assert in_map.sum() > 0.9 * panel.sum() > 0
        assert np.ptp(rows[in_map]) < 0.7 * 0.25 * 1980 / 2 / sheet.shape[0], "the upper half"


def test_bev_maps_have_forward_up_and_left_left():
    """The cell at x = 15, y = 5 is above its panel's centre and a little to the left."""
    spot = np.zeros((20, 20))
    spot[12, 17] = 1.0
    names = ("student_bev", "teacher_bev", "heatmap")  # from left to right
    blank, picture = (
        diagnostics_sheet(diagnostics(**dict.fromkeys(names, values), truth=None))
        for values in (0 * spot, spot)
    )
    rows, columns = changed(blank, picture)
    side = blank.shape[1] / 3
    middle = blank.shape[0] - 0.34 * 150 - side / 2
    for panel in range(3):
        bright = (rows * blank.shape[0] > middle - side / 2 + 60) & (columns * 3 // 1 == panel)
        x = (middle - rows[bright] * blank.shape[0]) / side * 2 * 1.04 * 20
        y = -(columns[bright] * 3 - panel - 0.5) * 2 * 1.04 * 20
        assert np.median(x) == pytest.approx(15, abs=1) and np.median(y) == pytest.approx(5, abs=1)


def test_a_sheet_needs_a_camera():
    with pytest.raises(ValueError, match="at least one camera"):
        diagnostics_sheet(replace(diagnostics(), cameras=[]))
