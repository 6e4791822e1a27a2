"""The frame index of nuScenes, compared with the devkit."""

import json

import numpy as np
import pytest
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.scripts.export_2d_annotations_as_json import post_process_coords
from nuscenes.utils.data_classes import Box
from pyquaternion import Quaternion

from fsdbev.data.index.frame_index import FrameIndex
from fsdbev.data.nuscenes import index_builder as nuscenes, rows as nuscenes_records
from fsdbev.data.nuscenes.tables import tables_fingerprint
from fsdbev.data.transforms.foreground_targets import image_boxes
from fsdbev.structures import NUSCENES_CLASSES

VERSION = "v1.0-synth"


def detected(tables, sample):
    records = [tables.get("sample_annotation", token) for token in sample["anns"]]
    return [r for r in records if category_to_detection_name(r["category_name"])]


def test_rows_are_the_scenes_samples_in_time(tables, synthetic):
    index = synthetic.index
    scene = next(s for s in tables.scene if s["token"] == index[0].scene_token)
    token = scene["first_sample_token"]
    for row in range(len(index)):
        frame = index[row]
        assert (frame.sample_token, frame.scene_name) == (token, scene["name"])
        assert frame.previous == row - 1
        assert frame.next == (row + 1 if row + 1 < len(index) else -1)
        token = tables.get("sample", token)["next"]
    assert token == "" and len(index) == scene["nbr_samples"]


def test_camera_order_and_reference(synthetic):
    frame = synthetic.index[0]
    assert frame.channels == nuscenes.CAMERA_ORDER
    assert frame.channels[frame.reference_camera] == "CAM_FRONT"
    assert frame.image_sizes.tolist() == [[160, 90]] * 6


def test_boxes_in_every_camera_are_the_devkits(tables, synthetic):
    frame, annotations = synthetic.index[1], synthetic.index.annotations(1)
    sample = tables.get("sample", frame.sample_token)
    expected = detected(tables, sample)
    assert annotations.tokens == tuple(r["token"] for r in expected)
    corners = annotations.corners().astype(np.float64)
    for camera, channel in enumerate(frame.channels):
        record = tables.get("sample_data", sample["data"][channel])
        ego = tables.get("ego_pose", record["ego_pose_token"])
        sensor = tables.get("calibrated_sensor", record["calibrated_sensor_token"])
        key2cam = frame.global2cam[camera] @ frame.key_ego2global
        ours = corners @ key2cam[:3, :3].T + key2cam[:3, 3]
        for box_corners, annotation in zip(ours, expected, strict=True):
            box: Box = tables.get_box(annotation["token"])
            for pose in (ego, sensor):
                box.translate(-np.array(pose["translation"]))
                box.rotate(Quaternion(pose["rotation"]).inverse)
            theirs = box.corners().T
            distance = np.linalg.norm(box_corners[:, None] - theirs[None], axis=-1)
            assert distance.min(axis=1).max() < 1e-3 and distance.min(axis=0).max() < 1e-3
            np.testing.assert_allclose(
                box_corners[4] - box_corners[0], theirs[0] - theirs[4], atol=1e-3
            )
        np.testing.assert_array_equal(frame.intrinsics[camera], sensor["camera_intrinsic"])


def test_boxes_in_the_images_are_the_devkits(synthetic):
    """Of objects in front of the camera: behind it the devkit drops corners, we cut edges."""
    compared = 0
    for row in range(len(synthetic.index)):
        frame, annotations = synthetic.index[row], synthetic.index.annotations(row)
        for camera, corners in enumerate(frame.corners_in_cameras(annotations)):
            intrinsics, size = frame.intrinsics[camera], tuple(frame.image_sizes[camera].tolist())
            boxes, owners = image_boxes(corners, intrinsics, size)
            found = dict(zip(owners.tolist(), boxes, strict=True))
            for which in np.flatnonzero(corners[..., 2].min(axis=1) > 0.1).tolist():
                uv = corners[which] @ intrinsics.T
                expected = post_process_coords((uv[:, :2] / uv[:, 2:]).tolist(), size)
                assert (expected is not None) == (which in found)
                if expected is not None:
                    np.testing.assert_allclose(found[which], expected, atol=2e-3)
                    compared += 1
    assert compared > 50


def test_annotation_fields_are_the_devkits(tables, synthetic):
    moving = 0
    for row in range(len(synthetic.index)):
        frame, annotations = synthetic.index[row], synthetic.index.annotations(row)
        records = detected(tables, tables.get("sample", frame.sample_token))
        for i, record in enumerate(records):
            name = category_to_detection_name(record["category_name"])
            assert NUSCENES_CLASSES.names[annotations.class_ids[i]] == name
            assert annotations.size[i].tolist() == pytest.approx(
                [record["size"][k] for k in (1, 0, 2)]
            )
            points = (annotations.num_lidar_points[i], annotations.num_radar_points[i])
            assert points == (record["num_lidar_pts"], record["num_radar_pts"])
            assert annotations.visibility[i] == int(record["visibility_token"])
            names = [tables.get("attribute", t)["name"] for t in record["attribute_tokens"]]
            assert annotations.attributes[i] == (names[0] if names else "")
            velocity = np.nan_to_num(tables.box_velocity(record["token"]))
            turned = frame.key_ego2global[:3, :3].T @ velocity
            np.testing.assert_allclose(annotations.velocity[i], turned[:2], atol=1e-4)
            moving += np.linalg.norm(velocity) > 0.5
    assert moving > 0


def test_unknown_velocity_is_zero(tables, synthetic, monkeypatch):
    monkeypatch.setattr(tables, "box_velocity", lambda token: np.full(3, np.nan))
    sample = tables.get("sample", synthetic.index[0].sample_token)
    annotations = nuscenes_records.read_annotations(
        tables, sample, synthetic.index[0].key_ego2global, NUSCENES_CLASSES
    )
    assert len(annotations) and (annotations.velocity == 0).all()


def test_one_camera_of_many(tables, tmp_path):
    path = tmp_path / "one.arrow"
    nuscenes.build_index(tables, "synth_val", path, channels=["CAM_BACK"])
    frame = FrameIndex(path)[0]
    assert frame.channels == ("CAM_BACK",) and frame.reference_camera == 0
    with pytest.raises(ValueError, match="CAM_UP"):
        nuscenes.build_index(tables, "synth_val", path, channels=["CAM_UP"])
    with pytest.raises(ValueError, match="reference channel 'CAM_FRONT'"):
        nuscenes.build_index(
            tables, "synth_val", path, channels=["CAM_BACK"], reference_channel="CAM_FRONT"
        )


def test_lidarseg_categories_map_to_classes(tables, synthetic):
    class_ids = json.loads(synthetic.index.info["lidarseg_classes"])
    for category in tables.category:
        name = category_to_detection_name(category["name"])
        expected = -1 if name is None else NUSCENES_CLASSES.names.index(name)
        assert class_ids[category["index"]] == expected


def test_fingerprint_depends_on_every_byte(tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    path = folder / "log.json"
    content = bytearray(b"[%s]" % (b" " * 300_000))
    path.write_bytes(content)
    first = tables_fingerprint(tmp_path, "v")
    assert first == tables_fingerprint(tmp_path, "v")
    (folder / "splits.json").write_text("{}")
    assert first == tables_fingerprint(tmp_path, "v")
    content[150_000] = ord("\n")
    path.write_bytes(content)
    assert first != tables_fingerprint(tmp_path, "v")
