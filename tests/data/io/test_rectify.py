"""Rectified images and intrinsics against OpenCV's projections and undistortion."""

import cv2
import numpy as np
import pytest

from fsdbev.data.io.rectify import _lookup_tables, rectified_intrinsics, rectify
from fsdbev.structures import Lens, box_corners

SIZE = (320, 200)
INTRINSICS = np.array([[190.0, 0, 166], [0, 185, 97], [0, 0, 1]])
#: Principal points in OpenCV count from the centre of the first pixel.
HALF_PIXEL = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
FISHEYE = Lens("fisheye", [[150.0, 0, 156], [0, 145, 103], [0, 0, 1]], (0.05, -0.02, 4e-3, -1e-3))
BARREL = Lens("radial_tangential", INTRINSICS, (-0.28, 0.09, 2e-3, -1e-3, -0.01))
RATIONAL = Lens("radial_tangential", INTRINSICS, (0.2, 0.05, 1e-3, 0, 0.01, 0.45, 0.1, 0.02))
THIN_PRISM = Lens("radial_tangential", INTRINSICS, (0.05, 0.01, 0, 0, 0, 0, 0, 0, 4e-3, 0, 0, 1e-3))
LENSES = [FISHEYE, BARREL, RATIONAL, THIN_PRISM]
CASES = [(lens, balance) for lens in LENSES for balance in (None, 0.5)]


def project(points, lens):
    """(n, 3) points -> (n, 2) pixels of the raw image, by OpenCV."""
    zero, coefficients = np.zeros(3), np.array(lens.coefficients)
    module = cv2.fisheye if lens.model == "fisheye" else cv2
    pixels, _ = module.projectPoints(points[:, None], zero, zero, lens.intrinsics, coefficients)
    return pixels[:, 0]


def pixel_centres():
    u, v = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    return np.stack([u, v], axis=-1)


def rays(lens):
    """(H, W, 2) x and y at depth 1 of each raw pixel, by OpenCV."""
    coefficients, pixels = np.array(lens.coefficients), pixel_centres().reshape(-1, 1, 2)
    if lens.model == "fisheye":
        found = cv2.fisheye.undistortPoints(pixels, lens.intrinsics, coefficients)
    else:
        exact = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-9)
        found = cv2.undistortPointsIter(
            pixels, lens.intrinsics, coefficients, np.eye(3), np.eye(3), exact
        )
    return found.reshape(SIZE[1], SIZE[0], 2)


def as_image(brightness):
    return np.repeat(np.round(255 * brightness)[..., None], 3, axis=2).astype(np.uint8)


def spot(place):
    """Image of a bright spot whose centre of brightness is at a pixel coordinate."""
    return as_image(np.exp(-np.square(pixel_centres() - place).sum(axis=-1) / 4.5))


def centre_of(image):
    weight = image[..., :1].astype(float)
    return (pixel_centres() * weight).sum(axis=(0, 1)) / weight.sum()


@pytest.mark.parametrize("lens, balance", CASES)
def test_corners_of_boxes_are_where_the_rectified_intrinsics_say(lens, balance):
    """Also a check of the half pixel between the coordinates of OpenCV and of this project."""
    intrinsics = rectified_intrinsics(lens, SIZE, balance)
    centers, sizes = np.array([[-2.0, 0.2, 7.0], [3.0, 0.5, 9.0]]), np.array([[4.0, 1.8, 1.6]] * 2)
    turn = cv2.Rodrigues(np.array([0.1, 0.7, 0.05]))[0]
    corners = np.concatenate(box_corners(centers, sizes, np.stack([turn, turn.T])))
    checked = 0
    for corner, raw in zip(corners, project(corners, lens), strict=True):
        expected = (intrinsics @ corner / corner[2])[:2]
        if all(((8 < p) & (p < np.array(SIZE) - 8)).all() for p in (raw, expected)):
            found = centre_of(rectify(spot(raw), lens, intrinsics))
            np.testing.assert_allclose(found, expected, atol=0.08)
            checked += 1
    assert checked >= 8


def bend(image, upright):
    """Largest distance in pixels of a bright line's pixels from the straight line that fits them
    best. The line crosses all rows if it is upright, otherwise all columns."""
    weight = image[..., 0].astype(float) if upright else image[..., 0].T.astype(float)
    total = weight.sum(axis=1)
    # Not where the border of the image cuts the line.
    rows = np.flatnonzero(total > 0.95 * np.median(total[total > 0]))
    place = weight[rows] @ np.arange(weight.shape[1]) / weight[rows].sum(axis=1)
    assert len(rows) > 60
    return np.abs(place - np.polyval(np.polyfit(rows, place, 1), rows)).max()


@pytest.mark.parametrize("lens, balance", CASES)
@pytest.mark.parametrize("upright", [True, False])
def test_straight_lines_become_straight(lens, balance, upright):
    x, y = np.moveaxis(rays(lens), -1, 0)
    distance = x - 0.3 - 0.1 * y if upright else y + 0.25 - 0.08 * x
    raw = as_image(np.exp(-np.square(distance / 0.02)))
    rectified = rectify(raw, lens, rectified_intrinsics(lens, SIZE, balance))
    assert bend(raw, upright) > (0.3 if lens is THIN_PRISM else 1)
    assert bend(rectified, upright) < 0.2


@pytest.mark.parametrize("lens, balance", CASES)
def test_pixels_are_those_of_opencvs_undistortion(lens, balance):
    image = np.random.default_rng(0).integers(0, 255, (*SIZE[::-1], 3), np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 1.5)
    intrinsics = rectified_intrinsics(lens, SIZE, balance)
    raw, coefficients = lens.intrinsics - HALF_PIXEL, np.array(lens.coefficients)
    new = intrinsics - HALF_PIXEL
    if lens.model == "fisheye":
        expected = cv2.fisheye.undistortImage(image, raw, coefficients, Knew=new)
    else:
        expected = cv2.undistort(image, raw, coefficients, None, new)
    found = rectify(image, lens, intrinsics)
    assert found.shape == image.shape and found.dtype == np.uint8
    # OpenCV computes its tables in strips, where a coordinate may round to another 1/32 pixel.
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 6 and difference.mean() < 0.05


@pytest.mark.parametrize("lens", LENSES)
def test_the_balance_is_between_no_border_and_all_of_the_image(lens):
    white = np.full((*SIZE[::-1], 3), 255, np.uint8)
    assert (rectified_intrinsics(lens, SIZE) == lens.intrinsics).all()
    shown = []
    for balance in (0, 0.5, 1):
        intrinsics = rectified_intrinsics(lens, SIZE, balance)
        shown.append(np.mean(rectify(white, lens, intrinsics)[2:-2, 2:-2] == 255))
    # OpenCV's estimate for a fisheye lens leaves out the corners.
    assert shown[0] > 0.99 and shown[2] < 1 and shown == sorted(shown, reverse=True)
    # The middle of each side of the raw image is in the rectified one.
    x, y = rays(lens)[[0, -1, 100, 100], [160, 160, 0, -1]].T
    u, v = intrinsics[:2, :2] @ [x, y] + intrinsics[:2, 2:]
    assert (np.array([u, v]) > -1).all() and (u < SIZE[0] + 1).all() and (v < SIZE[1] + 1).all()


def test_no_distortion_keeps_every_pixel():
    image = np.random.default_rng(0).integers(0, 255, (*SIZE[::-1], 3), np.uint8)
    lens = Lens("radial_tangential", INTRINSICS, (0,) * 5)
    assert (rectify(image, lens, INTRINSICS) == image).all()
    assert rectify(image, None, INTRINSICS) is image


def test_nothing_is_repeated_where_the_lens_model_turns_back():
    """k1 < 0 alone decreases beyond a radius of sqrt(-1 / (3 k1)) at depth 1."""
    lens = Lens("radial_tangential", INTRINSICS, (-0.3, 0, 0, 0))
    white = np.full((*SIZE[::-1], 3), 255, np.uint8)
    wide = INTRINSICS * [[0.5], [0.5], [1]] + [[0, 0, 80], [0, 0, 50], [0, 0, 0]]
    radius = np.linalg.norm((pixel_centres() - wide[:2, 2]) / wide.diagonal()[:2], axis=-1)
    shown = rectify(white, lens, wide)[..., 0] > 0
    matrices = INTRINSICS - HALF_PIXEL, np.array(lens.coefficients), None, wide - HALF_PIXEL
    repeated = cv2.undistort(white, *matrices)[..., 0] > 0
    limit = np.sqrt(1 / 0.9)
    assert (shown == repeated)[radius < 0.99 * limit].all()
    assert not shown[radius > 1.01 * limit].any() and repeated[radius > 1.1 * limit].any()


def test_the_table_of_a_lens_is_computed_once():
    image = np.zeros((*SIZE[::-1], 3), np.uint8)
    _lookup_tables.cache_clear()
    for _ in range(3):
        same = Lens(FISHEYE.model, FISHEYE.intrinsics.copy(), FISHEYE.coefficients)
        rectify(image, same, INTRINSICS)
    rectify(image, BARREL, INTRINSICS)
    info = _lookup_tables.cache_info()
    assert (info.misses, info.hits) == (2, 2) and info.maxsize * 9e6 < 200e6  # at 1600 x 900


@pytest.mark.parametrize("balance", [-0.1, 1.1, float("nan")])
def test_a_balance_outside_of_0_to_1_is_refused(balance):
    with pytest.raises(ValueError, match=f"within 0..1, got {balance}"):
        rectified_intrinsics(BARREL, SIZE, balance)


def test_intrinsics_that_opencv_can_not_derive_are_refused():
    """OpenCV returns a focal length of about 0 for a lens that sees more than 180 degrees, and a
    negative one for senseless coefficients."""
    half_sphere = Lens("fisheye", [[90.0, 0, 160], [0, 90, 100], [0, 0, 1]], (0,) * 4)
    senseless = Lens("radial_tangential", INTRINSICS, (1e6,) * 4)
    for lens, balance in ((half_sphere, 1), (senseless, 0)):
        with pytest.raises(ValueError, match="no pinhole camera.* a smaller balance or none"):
            rectified_intrinsics(lens, SIZE, balance)


def test_images_beyond_opencvs_limit_are_refused():
    with pytest.raises(ValueError, match="40000 x 2 pixels.*limit is 32766"):
        rectify(np.zeros((2, 40000, 3), np.uint8), BARREL, INTRINSICS)
