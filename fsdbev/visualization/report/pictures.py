"""Pictures that stand in the page itself."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

#: Wide enough to read labels, small enough that eight pictures stay below a few megabytes.
_WIDTH, _QUALITY = 1800, 78


def jpeg_address(picture: np.ndarray) -> str:
    """``data:`` address of an (H, W, 3) uint8 RGB picture, as JPEG and at most so wide."""
    image = Image.fromarray(picture)
    if image.width > _WIDTH:
        height = round(image.height * _WIDTH / image.width)
        image = image.resize((_WIDTH, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
