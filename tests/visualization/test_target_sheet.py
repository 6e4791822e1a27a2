"""The sheet of training targets: label points, heatmaps, boxes, stored and augmented."""

from dataclasses import replace

import drawing
import numpy as np
import pytest
import torch
from drawing import pixels, rgb
from matplotlib.colors import Normalize, to_rgb
from PIL import Image

from fsdbev.data.dataset import FrameDataset
from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.data.index.records import Annotations, Frame
from fsdbev.data.labels.point_labels import (
    GROUPS,
    PixelPoints,
    PointLabels,
    label_path,
    write_point_labels,
)
from fsdbev.data.mapper import MultiViewMapper
from fsdbev.data.transforms.bev_aug import BEVAugmentation
from fsdbev.data.transforms.image_aug import ImageAugmentation
from fsdbev.structures import NUSCENES_CLASSES, BEVGrid, DepthBins, make_transform, rotation_z
from fsdbev.visualization import (
    PALETTE,
    CameraView,
    LabelPoints,
    TargetView,
    augmented_sample,
    stored_sample,
    target_sheet,
)
from fsdbev.visualization.canvas import BACKGROUND_POINT_COLOR
from fsdbev.visualization.target_view import class_colors, depth_colors, draw_heatmap, draw_points

CLASS_COLORS = dict(zip(NUSCENES_CLASSES.names, PALETTE, strict=True))
DEPTHS = Normalize(0, 60, clip=True)
CAM2EGO = make_transform(torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=torch.float64))
WIDTH, HEIGHT = 320, 160
INTRINSICS = np.array([[200.0, 0, WIDTH / 2], [0, 200, HEIGHT / 2], [0, 0, 1]])
CAR, PEDESTRIAN, CONE, BACKGROUND = 0, 8, 9, -1
#: Box centres are at the labels: x, y, z, l, w, h, yaw, vx, vy. The last has no LiDAR points.
BOXES = np.array(
    [[15, 2, 0, 4, 2, 1.6, 0.3, 1, 0], [12, -3, 0, 1, 1, 2, 0, 0, 0], [20, -6, 0, 1, 1, 1, 0, 0, 0]]
)
CLASSES = np.array([CAR, PEDESTRIAN, CONE])


def pixels_and_depth(points):
    """Projects (P, 3) key ego points to u, v, depth of a forward-facing camera at its origin."""
    forward, left, up = np.asarray(points, np.float64).T
    return INTRINSICS[0, 2] - 200 * left / forward, INTRINSICS[1, 2] - 200 * up / forward, forward


def pixel_points(points, class_ids):
    u, v, depth = (values.astype(np.float32) for values in pixels_and_depth(points))
    return PixelPoints(u, v, depth, np.array(class_ids, np.int8))


#: A background point and one point at the centre of each box.
LABELS = PointLabels(
    sweep=pixel_points([[30, 10, 4], BOXES[0, :3]], [BACKGROUND, CAR]),
    combined=pixel_points(BOXES[1:2, :3], [PEDESTRIAN]),
    pseudo=pixel_points(BOXES[2:, :3], [CONE]),
    pseudo_uncombined=pixel_points([[18, 0, 0]], [PEDESTRIAN]),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """One sample with two cameras at key ego; the second faces backward and has no labels."""
    folder = tmp_path_factory.mktemp("targets")
    Image.new("RGB", (WIDTH, HEIGHT), (120, 60, 0)).save(folder / "image.png")
    backward = make_transform(rotation_z(torch.tensor(np.pi, dtype=torch.float64))) @ CAM2EGO
    pose = np.eye(4)
    pose[:3, 3] = (100, 50, 0)
    frame = Frame(
        sample_token="sample",
        scene_token="scene",
        scene_name="scene-1",
        timestamp=0,
        previous=-1,
        next=-1,
        channels=("CAM_FRONT", "CAM_BACK"),
        image_paths=("image.png",) * 2,
        image_sizes=np.array([[WIDTH, HEIGHT]] * 2, np.int32),
        camera_timestamps=np.zeros(2, np.int64),
        intrinsics=np.stack([INTRINSICS] * 2),
        cam2ego=torch.stack([CAM2EGO, backward]).numpy(),
        ego2global=np.stack([pose] * 2),
        reference_camera=0,
    )
    annotations = Annotations.from_boxes(BOXES, CLASSES, num_lidar_points=np.array([9, 9, 0]))
    write_index(folder / "index.arrow", [(frame, annotations)], NUSCENES_CLASSES)
    write_point_labels(
        label_path(folder / "labels", "sample"),
        [LABELS, PointLabels.empty()],
        frame,
        source="",
        classes=NUSCENES_CLASSES,
        statistics="",
    )
    return FrameDataset("one", FrameIndex(folder / "index.arrow"), folder, folder / "labels")


def make_mapper(strength=1.0, **changes):
    """Returns a mapper with augmentation of this strength; 0 disables it."""
    options = {
        "image_aug": ImageAugmentation(
            image_size=(HEIGHT, WIDTH),
            scale=(1 - 0.2 * strength, 1.0),
            flip_prob=0.5 * strength,
            max_rotation=5.4 * strength,
        ),
        "bev_aug": BEVAugmentation(
            max_rotation=22.5 * strength,
            scale=(1 - 0.05 * strength, 1 + 0.05 * strength),
            flip_prob=0.5 * strength,
        ),
        "grid": BEVGrid(x_range=(-32, 32), y_range=(-32, 32)),
        "training": True,
        "num_frames": 1,
        "depth_bins": DepthBins(),
    }
    return MultiViewMapper(**{**options, **changes})


def axes(scale=1):
    """Returns the axes of an image of the data set, in its pixels."""
    ax = drawing.axes(WIDTH, HEIGHT, scale)
    ax.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    ax.set_axis_off()
    return ax


def points_at(uv, class_ids, groups, depth=None):
    uv = np.array(uv, float).reshape(-1, 2)
    depth = np.ones(len(uv)) if depth is None else np.array(depth)
    groups = np.array([GROUPS.index(name) for name in groups])
    return LabelPoints(uv, depth, np.array(class_ids), groups)


def test_markers_of_the_groups():
    points = points_at(
        [[50, 40], [100, 40], [150, 40], [200, 40]], [CAR, PEDESTRIAN, CONE, CAR], GROUPS
    )
    ax = axes(scale=4)
    draw_points(ax, points.uv, points, class_colors(points, tuple(CLASS_COLORS)))
    picture = pixels(ax)
    for column, name in ((50, "car"), (150, "traffic_cone"), (200, "car")):
        middle = picture[159:161, 4 * column - 1 : 4 * column + 1]
        assert np.abs(middle - rgb(CLASS_COLORS[name])).max(axis=-1).min() < 40
    ring = picture[154:166, 394:406]
    assert ring[5:7, 5:7].min() > 200, "the ring is empty inside"
    assert np.abs(ring - rgb(CLASS_COLORS["pedestrian"])).max(axis=-1).min() < 90
    windows = [picture[140:180, 4 * u - 20 : 4 * u + 20] for u in (50, 150, 200)]
    sizes = [(window < 200).any(axis=-1).sum() for window in windows]
    assert 0 < 4 * sizes[0] < min(sizes[1:]), f"pseudo points are larger than the sweep's: {sizes}"


def test_foreground_is_drawn_over_background():
    points = points_at([[50, 40]] * 2, [CAR, BACKGROUND], ["sweep"] * 2)
    ax = axes(scale=4)
    draw_points(ax, points.uv, points, class_colors(points, tuple(CLASS_COLORS)))
    assert np.abs(pixels(ax)[160, 200] - rgb(CLASS_COLORS["car"])).max() < 40


def test_colors():
    points = points_at(np.zeros((3, 2)), [CAR, CONE, BACKGROUND], ["sweep"] * 3, [0, 60, 200])
    found = class_colors(points, tuple(CLASS_COLORS))[:, :3]
    names = (CLASS_COLORS["car"], CLASS_COLORS["traffic_cone"], BACKGROUND_POINT_COLOR)
    assert np.allclose(found, [to_rgb(name) for name in names])
    near, far, beyond = depth_colors(points, DEPTHS)[:, :3]
    assert near[0] > 2 * near[2] and far[2] > 2 * far[0], "near is red, far is blue"
    assert np.allclose(far, beyond)


def test_heatmap_colors_its_cells_and_outlines_boxes():
    heatmap = np.zeros((10, HEIGHT // 4, WIDTH // 4), np.float32)
    heatmap[CAR, 10, 20] = 1
    heatmap[PEDESTRIAN, 10, 20] = 0.5
    outline = np.array([[[200, 100], [240, 100], [240, 140], [200, 140]]])
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    view = TargetView(
        camera=CameraView("CAM", image, torch.eye(4), torch.eye(3)),
        points=points_at(np.zeros((0, 2)), [], []),
        heatmap=heatmap,
        outlines=outline,
        outline_labels=np.array([CONE]),
        source=outline[0],
    )
    ax = axes()
    ax.set_facecolor("black")
    ax.set_axis_on()
    draw_heatmap(ax, view, tuple(CLASS_COLORS))
    picture = pixels(ax)
    cell = picture[41:43, 81:83]
    assert np.abs(cell - 0.85 * rgb(CLASS_COLORS["car"])).max() < 10
    assert picture[36:40, 76:90].max() < 10 and picture[44:48, 76:90].max() < 10
    assert np.abs(picture[120, 199:202] - rgb(CLASS_COLORS["traffic_cone"])).max(axis=1).min() < 60
    assert picture[120, 220].max() < 10


def test_stored_labels_equal_the_file(dataset):
    sample = stored_sample(dataset, 0, make_mapper())
    front, back = sample.views
    points = front.points
    assert points.class_ids.tolist() == [BACKGROUND, CAR, PEDESTRIAN, CONE]
    assert [GROUPS[group] for group in points.groups] == ["sweep", "sweep", "combined", "pseudo"]
    np.testing.assert_allclose(points.depth, [30, 15, 12, 20], atol=1 / 256)
    np.testing.assert_allclose(front.points_in_keyego()[1:], BOXES[:, :3], atol=0.01)
    assert len(back.points) == 0
    assert front.camera.image[5, 5].tolist() == [120, 60, 0]
    assert front.heatmap.shape == (10, HEIGHT // 4, WIDTH // 4)
    u, v, _ = pixels_and_depth(BOXES[:1, :3])
    assert front.heatmap[CAR, int(v[0] / 4), int(u[0] / 4)] > 0.9
    assert front.outline_labels.tolist() == [CAR, PEDESTRIAN]
    assert (front.outlines[0].min(axis=0) < (u[0], v[0])).all()
    assert (front.outlines[0].max(axis=0) > (u[0], v[0])).all()
    assert sample.boxes.labels.tolist() == [CAR, PEDESTRIAN]
    assert sample.boxes_without_points.labels.tolist() == [CONE]
    assert "sample" in sample.title and "as stored" in sample.title


def test_disabled_strategies_give_no_points(dataset):
    mapper = make_mapper(frame_combination=False)
    points = stored_sample(dataset, 0, mapper).views[0].points
    names = ["sweep", "sweep", "pseudo", "pseudo_uncombined"]
    assert [GROUPS[group] for group in points.groups] == names
    mapper = make_mapper(strength=0, pseudo_points=False)
    points = augmented_sample(dataset, 0, mapper, 0).views[0].points
    assert sorted(GROUPS[group] for group in points.groups) == ["combined", "sweep", "sweep"]


def test_without_augmentation_both_views_are_the_same(dataset):
    stored = stored_sample(dataset, 0, make_mapper())
    plain = augmented_sample(dataset, 0, make_mapper(strength=0), 0)
    for a, b in zip(stored.views, plain.views, strict=True):
        np.testing.assert_array_equal(a.camera.image, b.camera.image)
        np.testing.assert_allclose(a.outlines, b.outlines)
        np.testing.assert_allclose(a.heatmap, b.heatmap, atol=1e-6)
        torch.testing.assert_close(a.camera.cam2keyego, b.camera.cam2keyego, atol=1e-4, rtol=0)
    torch.testing.assert_close(stored.boxes.boxes.tensor, plain.boxes.boxes.tensor)
    a, b = stored.views[0].points, plain.views[0].points
    order = np.lexsort(np.trunc(a.uv).T)
    np.testing.assert_array_equal(np.trunc(a.uv)[order], np.trunc(b.uv))
    for name in ("depth", "class_ids", "groups"):
        np.testing.assert_array_equal(getattr(a, name)[order], getattr(b, name))


@pytest.mark.parametrize("seed", range(4))
def test_augmented_labels_stay_in_their_boxes(dataset, seed):
    """Labels at the objects' centres stay there; heatmaps and outlines are at the same place."""
    sample = augmented_sample(dataset, 0, make_mapper(), seed)
    front = sample.views[0]
    positions = torch.from_numpy(front.points_in_keyego()).float()
    boxes = torch.cat([sample.boxes.boxes.tensor, sample.boxes_without_points.boxes.tensor])
    for class_id, box in zip(CLASSES, boxes, strict=True):
        at = np.flatnonzero(front.points.class_ids == class_id)
        assert len(at) == 1
        assert torch.linalg.norm(positions[at[0]] - box[:3]) < 0.15, "a pixel at 20 m is 0.1 m"
    for class_id, outline in zip(front.outline_labels, front.outlines, strict=True):
        u, v = front.points.uv[front.points.class_ids == class_id][0]
        assert front.heatmap[class_id, int(v / 4), int(u / 4)] > 0.5
        assert np.hypot(*(outline.mean(axis=0) - (u, v))) < 5


def test_the_sheet_has_points_boxes_and_legend(dataset):
    sample = stored_sample(dataset, 0, make_mapper())
    picture = target_sheet(sample).astype(int)
    assert picture.shape[1] == 1980 and picture.shape[2] == 3
    bare = replace(sample, views=[replace(v, points=v.points[:0]) for v in sample.views])
    without_points = target_sheet(bare).astype(int)
    assert without_points.shape == picture.shape
    # The left column colours the pseudo point by depth, the next one by class.
    cell = (1980 - 4 * 7.5) / 3
    top = picture.shape[0] - 150 * (0.05 + 6.9 + 0.05) - 2 * (cell / 2 + 7.5)
    u, v, _ = pixels_and_depth(BOXES[2:, :3])
    row = round(top + v[0] / WIDTH * cell)
    for column, color in ((0, None), (1, CLASS_COLORS["traffic_cone"])):
        left = 7.5 + column * (cell + 7.5)
        middle = picture[row, round(left + u[0] / WIDTH * cell)]
        point = sample.views[0].points[3:]
        expected = rgb(color) if color else 255 * depth_colors(point, DEPTHS)[0, :3]
        assert np.abs(middle - expected).max() < 40, column
    legend = picture[-1000:, 1075:]
    for name, color in CLASS_COLORS.items():
        assert (np.abs(legend - rgb(color)).max(axis=-1) < 8).sum() > 200, name
    # Without points the legend has other counts.
    assert (legend != without_points[-1000:, 1075:]).any()


def test_the_sheet_has_the_names_and_ranges_of_data_and_network(dataset):
    grid, bins = BEVGrid((0, 24), (-8, 8), cell=1.0), DepthBins(1.0, 24.0, 1.0)
    mapper = make_mapper(strength=0, grid=grid, depth_bins=bins)
    sample = stored_sample(dataset, 0, mapper)
    assert sample.class_names == NUSCENES_CLASSES.names
    assert (sample.grid, sample.depth_range) == (grid, (1.0, 24.0))
    pictures = [
        target_sheet(replace(sample, **changes)).astype(int)
        for changes in ({}, {"depth_range": (1.0, 80.0)}, {"class_names": ("tram",) * 10})
    ]
    bars, legends = zip(*((p[-1010:-940, 1080:], p[-800:-350, 1120:1300]) for p in pictures))
    assert (bars[0] != bars[1]).any() and (legends[0] != legends[2]).any()


def test_pseudo_points_outside_of_the_depth_bins_are_left_out(dataset):
    """The cone's pseudo point is 20 m deep, and 20 / scale m in an augmented image."""
    kept = ["combined", "sweep", "sweep"]
    for stop, names in ((19.0, kept), (21.0, ["pseudo", *kept])):
        mapper = make_mapper(depth_bins=DepthBins(stop=stop))
        points = stored_sample(dataset, 0, mapper).views[0].points
        assert sorted(GROUPS[group] for group in points.groups) == sorted(names)
    for stop in (20.0, 23.0, 26.0):
        for seed in range(4):
            mapper = make_mapper(depth_bins=DepthBins(stop=stop))
            points = augmented_sample(dataset, 0, mapper, seed).views[0].points
            pseudo = points.groups == GROUPS.index("pseudo")
            assert (points.depth[pseudo] <= stop).all() and (points.groups >= 0).all()


def test_part_of_the_cameras(dataset):
    """Without the front camera, which sees all objects, there are neither boxes nor labels."""
    back = replace(dataset, cameras=("CAM_BACK",))
    for sample in (
        stored_sample(back, 0, make_mapper()),
        augmented_sample(back, 0, make_mapper(camera_dropout=0.9), 0),
    ):
        assert [view.camera.name for view in sample.views] == ["CAM_BACK"]
        assert len(sample.boxes) == len(sample.boxes_without_points) == 0
        assert len(sample.views[0].points) == 0
    both = augmented_sample(dataset, 0, make_mapper(camera_dropout=0.9), 0)
    assert len(both.views) == 2, "pictures show the cameras that dropout leaves out"


def test_errors(dataset, tmp_path):
    sample = stored_sample(dataset, 0, make_mapper())
    with pytest.raises(ValueError, match="at least one camera view"):
        target_sheet(replace(sample, views=[]))
    with pytest.raises(ValueError, match="not be negative, got -1"):
        augmented_sample(dataset, 0, make_mapper(), -1)
    rows = [(dataset.index[0], Annotations.empty())]
    write_index(tmp_path / "test.arrow", rows, NUSCENES_CLASSES)
    test_set = replace(dataset, index=FrameIndex(tmp_path / "test.arrow"))
    with pytest.raises(ValueError, match="no annotations"):
        stored_sample(test_set, 0, make_mapper())
