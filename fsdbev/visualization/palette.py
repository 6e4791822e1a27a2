"""Class colours that stay apart for colour-blind eyes, on photographs and on a dark ground."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_hex, to_rgb

#: Found by search: CIE76 differences of at least 44 for normal sight and 20 under simulated
#: protanopia and deuteranopia (Machado et al. 2009), between each two and to white.
CLASS_COLORS = {
    "car": "#FEB30B",
    "truck": "#FF552F",
    "construction_vehicle": "#F5FF73",
    "bus": "#FFAAFE",
    "trailer": "#E927AB",
    "barrier": "#64C4A4",
    "motorcycle": "#005EF5",
    "bicycle": "#0D9AFC",
    "pedestrian": "#23D667",
    "traffic_cone": "#B55C61",
}

TRUTH_COLOR = "#FFFFFF"
BACKGROUND = "#15181C"
GRID_COLOR = "#4A525C"
TEXT_COLOR = "#E8EAED"
RING_TEXT_COLOR = "#9AA3AD"
FIELD_OF_VIEW_COLOR = "#B8C4D0"
TRAIL_COLOR = "#B8C4D0"
#: Labelled points of no class.
BACKGROUND_POINT_COLOR = "#8B95A1"


def colors_of(class_names: Sequence[str]) -> list[str]:
    """A colour for each class: its own for nuScenes' classes, else the palette in order."""
    spare = list(CLASS_COLORS.values())
    return [CLASS_COLORS.get(name, spare[i % len(spare)]) for i, name in enumerate(class_names)]


def text_color(color: str) -> str:
    """A lighter shade of ``color``, in which small letters can be read on a dark ground."""
    return to_hex(0.6 * np.array(to_rgb(color)) + 0.4)
