"""A recording at 10 Hz with frames half a second apart: velocities stay in metres per second."""

import numpy as np
import pytest

from fsdbev.data.build import open_nuscenes
from fsdbev.data.nuscenes.prepare import prepare_nuscenes
from fsdbev.data.synthetic import VERSION, SyntheticOptions, generate


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("fast") / "set"
    sizes = {"frames": 8, "image_size": (48, 27), "lidar_azimuths": 60}
    generate(root, SyntheticOptions(scenes_train=1, scenes_val=0, rate=10.0, **sizes))
    prepare_nuscenes(dataroot=root, version=VERSION, splits=["synth_train"])
    return open_nuscenes(dataroot=root, version=VERSION, split="synth_train")


def test_velocities_are_of_the_motion_between_neighbouring_samples(dataset, mapper):
    """That of a training sample, whose boxes are in the key ego frame, in the global frame."""
    places, times = [], [dataset.index[row].timestamp / 1e6 for row in range(len(dataset))]
    for row in range(len(dataset)):
        objects, pose = dataset.annotations(row), dataset.index[row].key_ego2global
        centers = objects.center @ pose[:3, :3].T + pose[:3, 3]
        places.append(dict(zip(objects.instance_tokens, centers, strict=True)))
    moving = 0
    for row in range(1, len(dataset) - 1):
        annotations = dataset.annotations(row)
        annotations = annotations.select(annotations.has_points)
        instances = mapper(training=False, with_boxes=True)(dataset, row)["instances"]
        turn = dataset.index[row].key_ego2global[:2, :2]
        velocities = instances.gt_boxes_3d.velocity.double().numpy() @ turn.T
        for name, velocity in zip(annotations.instance_tokens, velocities, strict=True):
            if name in places[row - 1] and name in places[row + 1]:
                way = places[row + 1][name] - places[row - 1][name]
                expected = way[:2] / (times[row + 1] - times[row - 1])
                np.testing.assert_allclose(velocity, expected, atol=0.05)
                moving += np.hypot(*expected) > 1
    assert moving > 10


def test_the_previous_frame_is_half_a_second_earlier(dataset, mapper):
    """With sweeps every 0.1 s, up to 8 ms early or late."""
    by_time = mapper(training=False, frame_interval=0.5)
    for row, source in {7: 2, 6: 1, 5: 0, 4: 0, 3: 0, 2: 2}.items():
        tokens = by_time(dataset, row)["frame_tokens"]
        assert tokens == [dataset.index[row].sample_token, dataset.index[source].sample_token]
