"""Boxes on images and in BEV, labels, layout of the mosaic, colours."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawing import CAM2EGO, INTRINSICS, axes, pixels, rgb
from matplotlib.colors import to_rgb

from fsdbev.structures import (
    NUSCENES_CLASSES,
    BEVGrid,
    Boxes3D,
    ClassSet,
    LabelledBoxes,
    invert,
    make_transform,
)
from fsdbev.visualization import (
    PALETTE,
    PREDICTION,
    TRUTH,
    TRUTH_ONLY,
    BEVArea,
    CameraView,
    draw_bev,
    draw_boxes_on_bev,
    draw_boxes_on_image,
    draw_image,
    draw_trails,
    mosaic,
)
from fsdbev.visualization.canvas import TRUTH_COLOR, colors_of
from fsdbev.visualization.diagnostics_sheet import DEPTH_COLORS, HEAT_COLORS
from fsdbev.visualization.mosaic import MosaicLayout

CLASS_NAMES = NUSCENES_CLASSES.names
CLASS_COLORS = dict(zip(CLASS_NAMES, PALETTE, strict=True))
AREA = BEVArea(reach=50.0)
MOSAIC = {"class_names": CLASS_NAMES, "area": AREA}


def view(width=200, height=100, name="CAM_FRONT", value=0):
    image = np.full((height, width, 3), value, np.uint8)
    return CameraView(name, image, CAM2EGO, INTRINSICS)


def boxes(*rows, labels=None, scores=None):
    labels = torch.zeros(len(rows), dtype=torch.int64) if labels is None else torch.tensor(labels)
    scores = None if scores is None else torch.tensor(scores)
    return LabelledBoxes(Boxes3D(torch.tensor(rows)), labels, scores)


def count_color(picture, color, tolerance=40):
    return int((np.abs(picture - rgb(color)).max(axis=-1) <= tolerance).sum())


def overlaps(ax):
    renderer = ax.figure.canvas.get_renderer()
    areas = [text.get_window_extent(renderer) for text in ax.texts]
    return [1 for a, b in itertools.combinations(areas, 2) if a.overlaps(b)]


def on_image(boxes, *, style=TRUTH_ONLY, scale=2, camera=None):
    """Draws boxes on a camera's image; returns the axes and the number of boxes drawn."""
    ax, camera = axes(scale=scale), camera or view()
    placer = draw_image(ax, camera)
    drawn = draw_boxes_on_image(
        ax, camera, boxes, style=style, class_names=CLASS_NAMES, placer=placer
    )
    return ax, drawn


def from_above(boxes, size=200):
    """Draws boxes in BEV, 50 m to each side; returns the axes and the number of boxes drawn."""
    ax = axes(size, size)
    placer = draw_bev(ax, area=AREA)
    drawn = draw_boxes_on_bev(ax, boxes, style=TRUTH_ONLY, class_names=CLASS_NAMES, placer=placer)
    return ax, drawn


def test_pixels_of_a_box():
    """A 2 m cube 10 m ahead: its near face is 2 * 200 / 9 px wide, in the centre."""
    ax, drawn = on_image(boxes([10.0, 0, 0, 2, 2, 2, 0, 0, 0]))
    assert drawn == 1
    picture = pixels(ax)
    color = rgb(CLASS_COLORS["car"])
    for u in (100 - 200 / 9, 100 + 200 / 9):
        column = picture[100, round(2 * u) - 2 : round(2 * u) + 3]
        assert np.abs(column - color).max(axis=-1).min() < 60
    assert picture[100, 200 + 2 * 30 :].max() < 30, "nothing to the right of the box"


def test_heading_face_is_filled():
    """If the box heads to the camera the near face is filled, otherwise the far one."""
    shares = []
    for yaw in (0.0, np.pi):
        ax, _ = on_image(boxes([10.0, 0, 0, 2, 2, 2, yaw, 0, 0]), style=PREDICTION)
        # Between the left edges of the two faces, at half height: in the near face only.
        shares.append(pixels(ax)[100, 2 * 80 - 1].sum())
    assert shares[0] < 30 < shares[1]


def test_boxes_outside_of_the_image_are_not_drawn():
    ax, drawn = on_image(boxes([-10.0, 0, 0, 2, 2, 2, 0, 0, 0], [10.0, 30, 0, 2, 2, 2, 0, 0, 0]))
    assert drawn == 0
    assert count_color(pixels(ax), CLASS_COLORS["car"]) == 0
    assert [text.get_text() for text in ax.texts] == ["CAM FRONT"]
    ax, drawn = on_image(boxes([0.0, 1.5, 0, 8, 2, 2, 0.1, 0, 0], labels=[3]))
    assert drawn == 1, "a box around the camera"
    assert count_color(pixels(ax), CLASS_COLORS["bus"]) > 50


def test_labels_never_overlap_and_those_with_the_best_scores_are_kept():
    rows = [[12.0, 0.1 * i, 0, 2, 2, 2, 0, 0, 0] for i in range(-8, 8)]
    scores = [0.3 + 0.01 * i for i in range(16)]
    crowd = boxes(*rows, labels=[i % 10 for i in range(16)], scores=scores)
    ax, _ = on_image(crowd, style=PREDICTION, scale=4)
    texts = [text.get_text() for text in ax.texts]
    assert not overlaps(ax)
    assert "truck 40" not in texts and "barrier 45" in texts
    assert 2 < len(texts) < 17
    assert all(
        ax.get_window_extent().contains(*point)
        for text in ax.texts
        for point in text.get_window_extent(ax.figure.canvas.get_renderer()).get_points()
    )
    ax, _ = on_image(boxes([300.0, 0, 0, 2, 2, 2, 0, 0, 0]), scale=4)
    assert [text.get_text() for text in ax.texts] == ["CAM FRONT"], "no label on a tiny box"


def test_forward_is_up_and_left_is_left():
    ax, drawn = from_above(
        boxes([20.0, 30.0, 0, 4, 2, 1.5, 0, 5.0, 0], [80.0, 0, 0, 4, 2, 1.5, 0, 0, 0])
    )
    assert drawn == 1, "the second is outside"
    picture = pixels(ax)
    color = rgb(CLASS_COLORS["car"])
    rows, columns = np.nonzero(np.abs(picture - color).max(axis=-1) <= 40)
    right = np.median(columns) / 400 * 100 - 50
    forward = 50 - np.median(rows) / 400 * 100
    assert right == pytest.approx(-30, abs=1.5)
    assert forward == pytest.approx(22, abs=2.5)
    # The velocity arrow ends one second ahead of the centre, beyond the box's front at 22 m.
    assert 50 - rows.min() / 400 * 100 == pytest.approx(25, abs=1)


def test_bev_labels_do_not_overlap():
    rows = [[10.0 + 0.5 * i, 5.0, 0, 4, 2, 1.5, 0, 0, 0] for i in range(20)]
    ax, _ = from_above(boxes(*rows))
    assert not overlaps(ax)
    assert sum(text.get_text() == "car" for text in ax.texts) >= 2


def test_bev_labels_do_not_hide_boxes():
    rows = [[5.0 * i, 5.0 * j, 0, 4, 2, 1.5, 0, 0, 0] for i in range(-4, 5) for j in range(-4, 5)]
    ax, _ = from_above(boxes(*rows, labels=[3] * len(rows)), size=300)
    labels = [text for text in ax.texts if text.get_text() == "bus"]
    assert 2 < len(labels) < len(rows)
    renderer = ax.figure.canvas.get_renderer()
    centers = ax.transData.transform([[-row[1], row[0]] for row in rows])
    for label in labels:
        area = label.get_window_extent(renderer)
        assert not any(area.contains(*center) for center in centers)


def test_velocity_arrow_in_the_image():
    """A cube 10 m ahead moves to the left at 2 m/s: its arrow on the ground ends at the column of
    its position one second later."""
    still = [10.0, 0, -0.5, 0.2, 0.2, 0.2, 0, 0, 0]
    moving = [*still[:7], 0.0, 2.0]
    style = replace(TRUTH_ONLY, labelled=False)
    pictures = [pixels(on_image(boxes(row), style=style)[0]) for row in (still, moving)]
    changed = np.nonzero(np.abs(pictures[1] - pictures[0]).max(axis=-1) > 60)
    assert changed[1].min() / 2 == pytest.approx(100 - 200 * 2 / 10, abs=2)
    assert np.median(changed[0]) / 2 == pytest.approx(50 + 200 * 0.6 / 10, abs=2)


def test_near_boxes_are_drawn_over_far_ones():
    """Both cubes have edges in column 100 + 20; in any order, the near one's are visible."""
    near, far = [10.0, -1.0, 0, 0.01, 0.01, 2, 0, 0, 0], [20.0, -2.0, 0, 0.01, 0.01, 4, 0, 0, 0]
    style = replace(TRUTH_ONLY, fill=0, labelled=False)
    for rows, labels in (([near, far], [0, 6]), ([far, near], [6, 0])):
        picture = pixels(on_image(boxes(*rows, labels=labels), style=style)[0])
        counts = [count_color(picture, CLASS_COLORS[name]) for name in ("car", "motorcycle")]
        assert counts[0] > 5 * counts[1] and counts[0] > 20


def test_fields_of_view_are_lighter_in_bev():
    ax = axes(200, 200)
    draw_bev(ax, area=AREA, views=[view()])
    picture = pixels(ax).sum(axis=-1)
    ahead, behind = picture[60, 190], picture[340, 190]
    aside = picture[190, 390]  # the field of view is 100 / 200 to either side
    assert ahead > behind + 15 and behind == aside
    assert "CAM FRONT" in [text.get_text() for text in ax.texts]


def test_the_area_of_a_grid_contains_grid_and_ego():
    assert BEVArea.of_grid(BEVGrid()) == BEVArea(51.2)
    assert BEVArea.of_grid(BEVGrid(), margin=1.5).reach == pytest.approx(1.5 * 51.2)
    ahead = BEVArea.of_grid(BEVGrid(x_range=(0, 80), y_range=(-32, 32), cell=1.0))
    assert (ahead.center, ahead.reach) == ((38.5, 0.0), 41.5)
    aside = BEVArea.of_grid(BEVGrid(x_range=(8, 24), y_range=(-60, -20), cell=1.0))
    assert (aside.center, aside.reach) == ((10.5, -28.5), 31.5)


def test_the_area_of_classes_ends_beyond_the_largest_range():
    assert BEVArea.of_classes(NUSCENES_CLASSES).reach == pytest.approx(55)
    classes = ClassSet(names=["vehicle", "person"], ranges={"vehicle": 80, "person": 30})
    assert BEVArea.of_classes(classes) == BEVArea(pytest.approx(88))


@pytest.mark.parametrize(
    ("area", "rings"),
    [
        (AREA, ["10 m", "20 m", "30 m", "40 m", "50 m"]),
        (BEVArea(108.8), ["20 m", "40 m", "60 m", "80 m", "100 m"]),
        (BEVArea(20.0), ["5 m", "10 m", "15 m", "20 m"]),
        (BEVArea(41.5, center=(38.5, 0.0)), ["20 m", "40 m", "60 m", "80 m"]),
    ],
)
def test_rings_have_round_distances_within_the_area(area, rings):
    ax = axes(400, 400)
    draw_bev(ax, area=area)
    assert [text.get_text() for text in ax.texts] == rings and not overlaps(ax)


def test_an_area_ahead_of_the_ego():
    """Boxes, the ego and the camera's name are where a grid from 0 to 80 m has them."""
    ax, area = axes(200, 200), BEVArea.of_grid(BEVGrid((0, 80), (-32, 32), cell=1.0))
    placer = draw_bev(ax, area=area, views=[view()])
    style = replace(TRUTH_ONLY, labelled=False)
    both = boxes([60.0, 20.0, 0, 4, 2, 1.5, 0, 0, 0], [-20.0, 0, 0, 4, 2, 1.5, 0, 0, 0])
    names = {"style": style, "class_names": CLASS_NAMES, "placer": placer}
    assert draw_boxes_on_bev(ax, both, **names) == 1, "the second is behind the area"
    rows, columns = np.nonzero(np.abs(pixels(ax) - rgb(CLASS_COLORS["car"])).max(axis=-1) <= 40)
    assert np.median(columns) / 400 * 83 - 41.5 == pytest.approx(-20, abs=1.5)
    assert 80 - np.median(rows) / 400 * 83 == pytest.approx(60, abs=2.5)
    (name,) = [text for text in ax.texts if text.get_text() == "CAM FRONT"]
    assert name.get_position()[1] == pytest.approx(80, abs=1) and abs(name.get_position()[0]) < 1


def test_trails():
    ax = axes(200, 200)
    draw_bev(ax, area=AREA)
    before = pixels(ax)
    draw_trails(ax, [np.array([[0.0, 20.0], [10.0, 20.0], [15.0, 20.0]]), np.zeros((1, 2))], "red")
    rows, columns = np.nonzero(np.abs(pixels(ax) - before).max(axis=-1) > 40)
    assert np.median(columns) / 4 - 50 == pytest.approx(-20, abs=1)
    assert 50 - rows.min() / 4 == pytest.approx(15, abs=1)


@pytest.mark.parametrize(
    ("aspects", "rows"),
    [([16 / 9], 1), ([16 / 9] * 6, 2), ([4 / 3, 4 / 3, 1], 1), ([1.8, 1.2, 1, 1.5, 1.9], 2)],
)
def test_layout_uses_the_page(aspects, rows):
    layout = MosaicLayout.of(aspects)
    assert len({round(bottom, 6) for _, bottom, _, _ in layout.cameras}) == rows
    for aspect, (left, bottom, width, height) in zip(aspects, layout.cameras, strict=True):
        assert width / height == pytest.approx(aspect)
        assert left > 0 and left + width <= layout.bev[0]
        assert bottom > 0 and bottom + height < layout.height
    for (a, b, c, d), (e, f, g, h) in itertools.combinations([*layout.cameras, layout.bev], 2):
        assert a + c <= e or e + g <= a or b + d <= f or f + h <= b, "images overlap"


@pytest.mark.parametrize("cameras", [1, 6])
def test_mosaic_of_any_rig(cameras):
    views = [view(160 + 20 * i, 90, f"CAM_{i}", 60) for i in range(cameras)]
    truth = boxes([10.0, 0, 0, 4, 2, 1.5, 0, 0, 0], labels=[6])
    predictions = boxes([10.5, 0, 0, 4, 2, 1.5, 0, 0, 0], labels=[4], scores=[0.9])
    before = truth.boxes.tensor.clone()
    both = mosaic(views, **MOSAIC, truth=truth, predictions=predictions, title="sample")
    assert both.dtype == np.uint8 and both.ndim == 3 and both.shape[2] == 3
    blank = mosaic(views, **MOSAIC)
    assert both.shape == blank.shape
    assert torch.equal(truth.boxes.tensor, before)

    def more(picture, color):
        return count_color(picture.astype(int), color) - count_color(blank.astype(int), color)

    assert more(both, CLASS_COLORS["trailer"]) > 100
    assert more(both, TRUTH_COLOR) > 50
    assert more(both, CLASS_COLORS["motorcycle"]) < 20, "with predictions, ground truth is white"
    only_truth = mosaic(views, **MOSAIC, truth=truth)
    assert more(only_truth, CLASS_COLORS["motorcycle"]) > 100


def test_mosaic_without_boxes_and_errors():
    no_labels = torch.zeros(0, dtype=torch.int64)
    none = LabelledBoxes(Boxes3D(torch.zeros(0, 9)), no_labels, torch.zeros(0))
    assert mosaic([view()], **MOSAIC, truth=none, predictions=none).ndim == 3
    with pytest.raises(ValueError, match="at least one camera"):
        mosaic([], **MOSAIC)
    with pytest.raises(ValueError, match=r"CAM: image must be \(H, W, 3\), got \(4, 4\)"):
        CameraView("CAM", np.zeros((4, 4), np.uint8), CAM2EGO, INTRINSICS)
    with pytest.raises(ValueError, match="differ in length"):
        LabelledBoxes(Boxes3D(torch.zeros(2, 9)), torch.zeros(1, dtype=torch.int64))


def test_threshold_and_priority():
    some = boxes(*np.eye(4, 9).tolist(), scores=[0.1, 0.9, 0.5, 0.9])
    assert some.by_priority() == [1, 3, 2, 0]
    kept = some.at_least(0.5)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.5, 0.9])
    assert len(kept.boxes) == 3
    near_last = boxes([30.0, *[0.0] * 8], [3.0, *[0.0] * 8])
    assert near_last.by_priority() == [1, 0]
    assert near_last.at_least(0.5) is near_last
    assert TRUTH.order < PREDICTION.order


#: Simulated colour vision, linear RGB to linear RGB: Machado, Oliveira, Fernandes 2009, severity 1.
VISIONS = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}


def lab(color, vision):
    """Converts sRGB to CIELAB (D65) under a colour vision."""
    srgb = np.array(to_rgb(color))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ np.clip(vision @ linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize(
    ("vision", "least"), [("normal", 40), ("deuteranopia", 20), ("protanopia", 20)]
)
def test_class_colors_can_be_distinguished(vision, least):
    colors = [lab(color, VISIONS[vision]) for color in (*PALETTE, TRUTH_COLOR)]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colors, 2)) >= least


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("colors", [DEPTH_COLORS, HEAT_COLORS], ids=["depth", "heat"])
def test_color_maps_are_monotonic_in_lightness(colors, vision):
    """So that they can be read with any colour vision."""
    lightness = [lab(colors(value)[:3], VISIONS[vision])[0] for value in np.linspace(0, 1, 11)]
    steps = np.diff(lightness)
    assert abs(np.sign(steps).sum()) == len(steps) and np.abs(steps).min() > 3


def test_colors_follow_the_position_of_a_class():
    assert [color.upper() for color in colors_of(["tram", "car"])] == list(PALETTE[:2])
    assert len(set(colors_of([f"class {i}" for i in range(25)]))) == 25


def test_boxes_in_a_backward_facing_camera():
    turn = make_transform(torch.diag(torch.tensor([-1.0, -1.0, 1.0])))
    back = CameraView("CAM_BACK", np.zeros((100, 200, 3), np.uint8), turn @ CAM2EGO, INTRINSICS)
    assert torch.equal(invert(turn), turn)
    behind = boxes([-10.0, 0, 0, 2, 2, 2, 0, 0, 0])
    assert on_image(behind, style=TRUTH, camera=back)[1] == 1
