"""Cameras of rigs of any size: composed transforms, camera vector, reference camera."""

import math

import numpy as np
import pytest
import torch

from fsdbev.structures import Cameras, key_ego2global, reference_camera

RIGS = [1, 7]


def make_sample(num_cameras=6, num_frames=2, seed=0):
    """Returns a sample far from the global origin, where float32 poses are decimetres wrong."""
    r = np.random.RandomState(seed)

    def pose(scale, offset):
        yaw, tilt = r.uniform(-3, 3), r.uniform(-0.1, 0.1)
        a, b, c, d = math.cos(yaw), math.sin(yaw), math.cos(tilt), math.sin(tilt)
        m = np.eye(4)
        m[:3, :3] = np.array([[a, -b, 0], [b, a, 0], [0, 0, 1]]) @ [
            [1, 0, 0],
            [0, c, -d],
            [0, d, c],
        ]
        m[:3, 3] = r.uniform(-scale, scale, 3) + offset
        return m

    def poses(scale, offset):
        rows = [[pose(scale, offset) for _ in range(num_cameras)] for _ in range(num_frames)]
        return torch.from_numpy(np.array(rows))

    intrinsics = np.zeros((num_frames, num_cameras, 3, 3), np.float32)
    intrinsics[:] = [[1260, 0, 800], [0, 1250, 450], [0, 0, 1]]
    intrinsics[..., :2, 2] += r.uniform(-10, 10, (num_frames, num_cameras, 2))
    image_aug = np.tile(np.eye(4, dtype=np.float32), (num_cameras, 1, 1))
    image_aug[:, :2, :2] = 0.44 * np.eye(2) + r.uniform(-0.02, 0.02, (num_cameras, 2, 2))
    image_aug[:, 2, 2] = 0.9
    image_aug[:, :2, 3] = r.uniform(-50, 50, (num_cameras, 2))
    bev_aug = np.eye(4, dtype=np.float32)
    bev_aug[:2, :2] = [[0.9, -0.3], [0.3, 0.9]]
    bev_aug[2, 2] = 0.95
    return {
        "cam2ego": poses(2, 0),
        "ego2global": poses(3, [600.0, 1600.0, 0.0]),
        "intrinsics": torch.from_numpy(intrinsics),
        "image_aug": torch.from_numpy(image_aug),
        "bev_aug": torch.from_numpy(bev_aug),
    }


@pytest.mark.parametrize(
    ("cameras", "given", "expected"), [(1, None, 0), (2, None, 1), (7, None, 1), (7, 4, 4)]
)
def test_reference_camera(cameras, given, expected):
    sample = make_sample(cameras) | ({} if given is None else {"reference_camera": given})
    assert reference_camera(sample) == expected
    assert key_ego2global(sample).equal(sample["ego2global"][0, expected])
    assert key_ego2global(sample).dtype == torch.float64
    for index in (-1, cameras):
        with pytest.raises(ValueError, match=f"is {index}, but the rig has {cameras}"):
            reference_camera(sample | {"reference_camera": index})


@pytest.mark.parametrize("num_cameras", RIGS)
def test_cam2keyego_by_hand(num_cameras):
    samples = [make_sample(num_cameras, seed=s) for s in (0, 1)]
    samples[1]["reference_camera"] = num_cameras - 1
    cameras = Cameras.from_samples(samples)
    assert (cameras.num_samples, cameras.num_views) == (2, 2 * num_cameras)
    assert cameras.cam2keyego.shape == (2, 2 * num_cameras, 4, 4)
    assert cameras.sample.tolist() == [0] * num_cameras + [1] * num_cameras
    assert cameras.cam2keyego.dtype == torch.float64
    for b, reference in enumerate((min(1, num_cameras - 1), num_cameras - 1)):
        cam2ego, ego2global = (samples[b][k].numpy() for k in ("cam2ego", "ego2global"))
        for t in range(2):
            for n in range(num_cameras):
                expected = (
                    np.linalg.inv(ego2global[0, reference]) @ ego2global[t, n] @ cam2ego[t, n]
                )
                np.testing.assert_allclose(
                    cameras.cam2keyego[t, b * num_cameras + n], expected, atol=1e-9
                )


@pytest.mark.parametrize("num_cameras", RIGS)
def test_undo_image_aug(num_cameras):
    cameras = Cameras.from_samples([make_sample(num_cameras)])
    both = cameras.undo_image_aug() @ cameras.image_aug
    assert torch.allclose(both, torch.eye(4).double().expand_as(both), atol=1e-12)


@pytest.mark.parametrize("num_cameras", RIGS)
def test_image2bev_follows_a_point_through_camera_and_ego(num_cameras):
    sample = make_sample(num_cameras)
    cameras = Cameras.from_samples([sample])
    point = np.array([1.5, -0.7, 20.0])  # camera frame
    for t in range(2):
        image2bev = cameras.image2bev(t)
        assert image2bev.shape == (num_cameras, 4, 4)
        for n in range(num_cameras):
            # Pinhole projection: (u depth, v depth, depth).
            projected = sample["intrinsics"][t, n].double().numpy() @ point
            keyego = cameras.cam2keyego[t, n].double().numpy() @ [*point, 1]
            expected = sample["bev_aug"].double().numpy() @ keyego
            ours = image2bev[n].double().numpy() @ [*projected, 1]
            np.testing.assert_allclose(ours, expected, atol=1e-9)


def test_samples_of_different_numbers_of_cameras():
    samples = [make_sample(count, seed=count) for count in (3, 1, 2)]
    cameras = Cameras.from_samples(samples)
    assert cameras.sample.tolist() == [0, 0, 0, 1, 2, 2]
    alone = [Cameras.from_samples([sample]) for sample in samples]
    assert torch.equal(cameras.cam2keyego, torch.cat([each.cam2keyego for each in alone], dim=1))
    assert torch.equal(cameras.image2bev(1), torch.cat([each.image2bev(1) for each in alone]))
    assert torch.equal(cameras.camera_vector(), torch.cat([e.camera_vector() for e in alone]))


def test_the_key_ego_frame_of_a_left_out_reference_camera():
    sample = make_sample(3)
    part = {k: v[:, 2:] if v.dim() == 4 else v for k, v in sample.items()}
    part["image_aug"] = sample["image_aug"][2:]
    part["key_ego2global"] = key_ego2global(sample)
    whole, chosen = Cameras.from_samples([sample]), Cameras.from_samples([part])
    torch.testing.assert_close(chosen.cam2keyego, whole.cam2keyego[:, 2:], rtol=0, atol=1e-12)


def test_camera_vector_in_order():
    """Intrinsics fx fy cx cy; image_aug a00 a01 tu a10 a11 tv; bev_aug m00 m01 m10 m11 m22; then
    the first three rows of cam2keyego."""
    samples = [make_sample(7, seed=s) for s in (0, 1)]
    cameras = Cameras.from_samples(samples)
    vector = cameras.camera_vector()
    assert vector.shape == (14, 27) and vector.dtype == torch.float32
    for b, sample in enumerate(samples):
        for n in range(7):
            k, a, m = sample["intrinsics"][0, n], sample["image_aug"][n], sample["bev_aug"]
            expected = [k[0, 0], k[1, 1], k[0, 2], k[1, 2]]
            expected += [a[0, 0], a[0, 1], a[0, 3], a[1, 0], a[1, 1], a[1, 3]]
            expected += [m[0, 0], m[0, 1], m[1, 0], m[1, 1], m[2, 2]]
            expected += cameras.cam2keyego[0, 7 * b + n, :3].flatten().tolist()
            assert vector[7 * b + n].tolist() == pytest.approx([float(e) for e in expected])


def test_camera_vector_is_of_the_key_frame():
    sample = make_sample(num_frames=3)
    cameras = Cameras.from_samples([sample])
    key_only = {k: v[:1] if v.dim() == 4 else v for k, v in sample.items() if k != "image_aug"}
    key_only["image_aug"] = sample["image_aug"]
    assert torch.equal(cameras.camera_vector(), Cameras.from_samples([key_only]).camera_vector())
