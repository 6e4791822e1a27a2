"""Recordings that demo.py runs a model on: a generated one, and what is known of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsdbev.data.io.recording import RecordedFrame
from fsdbev.data.io.rig_file import rig_of_frame
from fsdbev.data.synthetic.held_out import make_held_out
from fsdbev.inference import Predictor
from fsdbev.structures import LabelledBoxes, Rig
from fsdbev.visualization import true_boxes


@dataclass(frozen=True)
class Recording:
    """Frames of a rig.

    Attributes:
        rig: the cameras.
        frames: the frames in the order of time.
        poses: ego2global of each frame by its number, (4, 4), or (N, 4, 4) for N cameras, metres;
            None if they are not known.
        truth: true boxes of each frame by its number, in its ego frame; None if they are not known.
        class_names: names that the labels of ``truth`` index.
    """

    rig: Rig
    frames: Iterable[RecordedFrame]
    poses: Sequence | None = None
    truth: Sequence[LabelledBoxes] | None = None
    class_names: tuple[str, ...] = ()

    def truth_of(self, frame: RecordedFrame, predictor: Predictor) -> LabelledBoxes | None:
        """Returns the true boxes of a frame in the model's grid, which the model can detect; None
        if they are not known, or are of other classes than the model's."""
        if self.truth is None or self.class_names != predictor.class_names:
            return None
        truth = self.truth[int(frame.name)]
        return truth[predictor.model.grid.contains(truth.boxes.centers)]


def make_recording(folder: Path, rate: float) -> Recording:
    """Generates a recording in a folder, with poses and ground truth."""
    dataset = make_held_out(folder / "data", frames=2, rate=rate)
    rows = range(len(dataset))
    samples = [dataset.frame(row) for row in rows]
    images = [
        {name: dataset.dataroot / path for name, path in zip(each.channels, each.image_paths)}
        for each in samples
    ]
    return Recording(
        rig_of_frame(samples[0]),
        [RecordedFrame(f"{row:06d}", row / rate, images[row]) for row in rows],
        poses=[each.ego2global for each in samples],
        truth=[true_boxes(dataset.annotations(row)) for row in rows],
        class_names=dataset.classes.names,
    )
