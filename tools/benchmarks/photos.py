"""Made-up photographs: JPEG files as large as those of nuScenes, and so about as slow to decode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

#: Of nuScenes' files; chroma is halved along both axes.
QUALITY, SAMPLING = 80, 2
#: Contrast of the finest detail, grey levels; coarser detail has more, in proportion to its size.
_FINEST, _MOST = 2.5, 40.0


def write_photo(path: Path, seed: tuple[int, ...], width: int, height: int) -> None:
    """Clouds of all sizes behind boxes with clear edges."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 110.0, np.float32)
    step, contrast = 2, _FINEST
    while step < min(width, height):
        clouds = rng.normal(0, 1, (-(-height // step), -(-width // step), 3)).astype(np.float32)
        clouds[..., 1:] = clouds[..., :1] + 0.3 * clouds[..., 1:]  # colours are faint
        for channel in range(3):
            picture = Image.fromarray(clouds[..., channel])
            pixels[..., channel] += contrast * np.asarray(picture.resize((width, height)))
        step, contrast = 2 * step, min(2 * contrast, _MOST)
    for _ in range(60):
        left, top = rng.integers(0, (width, height))
        right, bottom = (left, top) + rng.integers(8, 200, 2)
        pixels[top:bottom, left:right] *= rng.uniform(0.4, 1.6)
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "JPEG", quality=QUALITY, subsampling=SAMPLING)
