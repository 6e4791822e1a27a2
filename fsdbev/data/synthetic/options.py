"""Options of a synthetic data set. The same options produce the same files."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .sensor_rig import CAMERA_SPECS
from .traffic import TRAFFIC
from .world_kind import WORLD_KINDS, WorldKind

SPLITS = ("synth_train", "synth_val")
#: Formats of a data set: recordings with LiDAR and 3D boxes, or images with 2D boxes and masks.
FORMATS = ("nuscenes", "nuimages")
#: Maximum number of scenes in a split, and the offset between the scene numbers of the splits.
MAX_SCENES = 5000
#: Maximum length of a scene in seconds, as in nuScenes.
MAX_SECONDS = 20
#: Range of the key frames per second. At the largest, cameras still trigger after the previous key
#: frame, since the first triggers up to 44 ms before the lidar.
MIN_RATE, MAX_RATE = 1.0, 20.0


@dataclass(frozen=True)
class SyntheticOptions:
    """Content of a synthetic data set.

    Attributes:
        scenes_train, scenes_val: number of scenes of the splits synth_train and synth_val.
        frames: number of key frames in a scene, at most ``MAX_SECONDS`` times ``rate``.
        rate: key frames per second, 2 as in nuScenes by default.
        image_size: (width, height) of every camera in pixels.
        fisheye: names of the cameras with a fisheye lens of about 135 degrees.
        world: key of ``WORLD_KINDS``.
        density: factor on the number of objects; 1 results in about 30 visible objects per sample.
        lidar_azimuths: number of azimuth steps in a lidar turn, each with 32 beams.
        traffic: ``"right"``, or ``"both"`` for directions that do not depend on the side of the
            road (``Traffic.draw``).
        seed: seed of all random numbers.
        format: one of ``FORMATS``.

    Raises:
        ValueError: an option is out of range.
    """

    scenes_train: int = 80
    scenes_val: int = 10
    frames: int = 5
    rate: float = 2.0
    image_size: tuple[int, int] = (480, 270)
    fisheye: tuple[str, ...] = ()
    world: str = "street"
    density: float = 1.0
    lidar_azimuths: int = 1085
    traffic: str = "right"
    seed: int = 0
    format: str = "nuscenes"

    def __post_init__(self) -> None:
        # A list, as read from JSON, becomes a tuple; assignment bypasses the frozen dataclass.
        object.__setattr__(self, "image_size", tuple(int(v) for v in self.image_size))
        object.__setattr__(self, "fisheye", tuple(self.fisheye))
        for name in ("scenes_train", "scenes_val"):
            if not 0 <= getattr(self, name) <= MAX_SCENES:
                raise ValueError(
                    f"{name} must be within 0..{MAX_SCENES}, got {getattr(self, name)}"
                )
        if self.format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if not MIN_RATE <= self.rate <= MAX_RATE:
            raise ValueError(f"rate must be within {MIN_RATE}..{MAX_RATE} Hz, got {self.rate}")
        if not 1 <= self.frames <= MAX_SECONDS * self.rate:
            raise ValueError(
                f"frames must be within 1..{int(MAX_SECONDS * self.rate)}, {MAX_SECONDS} s at "
                f"{self.rate} Hz, got {self.frames}"
            )
        cameras = [spec.channel for spec in CAMERA_SPECS]
        if not set(self.fisheye) <= set(cameras):
            raise ValueError(
                f"fisheye must be cameras of {', '.join(cameras)}, got {', '.join(self.fisheye)}"
            )
        if self.scenes_train + self.scenes_val < 1:
            raise ValueError("scenes_train + scenes_val must be at least 1, got 0")
        if len(self.image_size) != 2 or not all(16 <= v <= 4096 for v in self.image_size):
            raise ValueError(
                f"image_size must be (width, height) in 16..4096, got {self.image_size}"
            )
        if not 0.0 <= self.density <= 4.0:
            raise ValueError(f"density must be within 0..4, got {self.density}")
        if self.world not in WORLD_KINDS:
            raise ValueError(f"world must be one of {', '.join(WORLD_KINDS)}, got {self.world!r}")
        if self.traffic not in TRAFFIC:
            raise ValueError(f"traffic must be one of {', '.join(TRAFFIC)}, got {self.traffic!r}")
        if not 16 <= self.lidar_azimuths <= 4096:
            raise ValueError(f"lidar_azimuths must be within 16..4096, got {self.lidar_azimuths}")

    @property
    def world_kind(self) -> WorldKind:
        """The kind of world that ``world`` names."""
        return WORLD_KINDS[self.world]

    def as_dict(self) -> dict:
        """Returns the options with JSON types only."""
        lists = {"image_size": list(self.image_size), "fisheye": list(self.fisheye)}
        return {**asdict(self), **lists}
