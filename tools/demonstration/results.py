"""Writer of the files of a run of demo.py."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fsdbev.utils.atomic_write import atomic_write
from fsdbev.visualization import VideoWriter


class Results:
    """Writer of pictures and, for several frames, a video.

    Pictures of an earlier run are removed when the block ends without an error.

    Args:
        folder: output folder.
        rate: frames per second of the video.
    """

    def __init__(self, folder: Path, rate: float) -> None:
        self.folder = folder
        self._written: set[Path] = set()
        self._video = VideoWriter(folder / "detections.mp4", rate)
        # The first picture waits here until a second one starts the video.
        self._first: np.ndarray | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Results:
        self._stack.__enter__()
        return self

    def add(self, name: str, picture: np.ndarray) -> Path:
        """Writes a picture, (H, W, 3) uint8 RGB, to a file and to the video; returns the path."""
        if not self._written:
            self._first = picture
        elif self._first is not None:
            self._stack.enter_context(self._video).add(self._first)
            self._first = None
        if self._first is None:
            self._video.add(picture)
        return self._write(self.folder / "pictures" / f"{name}.jpg", picture)

    def add_diagnostics(self, name: str, sheet: np.ndarray) -> None:
        """Writes a diagnostics sheet."""
        self._write(self.folder / "diagnostics" / f"{name}.jpg", sheet)

    def _write(self, path: Path, picture: np.ndarray) -> Path:
        """Writes a JPEG file, notes its path and returns it."""
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as file:
            Image.fromarray(picture).save(file, "JPEG", quality=90)
        self._written.add(path)
        return path

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        if error[0] is not None:
            return
        # Names of frames begin with a digit; other files in the folders belong to the user.
        for kind in ("pictures", "diagnostics"):
            for old in set((self.folder / kind).glob("[0-9]*.jpg")) - self._written:
                old.unlink()
        if self._first is not None:
            self._video.path.unlink(missing_ok=True)
