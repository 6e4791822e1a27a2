"""What a synthetic data set is made from: the same options give the same files."""

from __future__ import annotations

from dataclasses import asdict, dataclass

SPLITS = ("synth_train", "synth_val")
#: The most scenes of a split; scene numbers of the splits are this far apart.
MAX_SCENES = 5000
#: The longest scene, 20 s as in nuScenes.
MAX_FRAMES = 40


@dataclass(frozen=True)
class SyntheticOptions:
    """Attributes:
    scenes_train, scenes_val: number of scenes of the splits synth_train and synth_val.
    frames: key frames a scene, at 2 Hz, at most 40.
    image_size: (width, height) in pixels of every camera.
    density: factor on the number of objects; 1 gives about 30 visible ones a sample.
    lidar_azimuths: azimuth steps of a lidar turn; 32 beams each.
    seed: of everything random.
    """

    scenes_train: int = 40
    scenes_val: int = 10
    frames: int = 5
    image_size: tuple[int, int] = (480, 270)
    density: float = 1.0
    lidar_azimuths: int = 1085
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", tuple(int(v) for v in self.image_size))
        for name in ("scenes_train", "scenes_val"):
            if not 0 <= getattr(self, name) <= MAX_SCENES:
                raise ValueError(
                    f"{name} must be within 0..{MAX_SCENES}, got {getattr(self, name)}"
                )
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if not 1 <= self.frames <= MAX_FRAMES:
            raise ValueError(f"frames must be within 1..{MAX_FRAMES}, got {self.frames}")
        if self.scenes_train + self.scenes_val < 1:
            raise ValueError("scenes_train + scenes_val is 0; ask for at least one scene")
        if len(self.image_size) != 2 or not all(16 <= v <= 4096 for v in self.image_size):
            raise ValueError(
                f"image_size must be (width, height) in 16..4096, got {self.image_size}"
            )
        if not 0.0 <= self.density <= 4.0:
            raise ValueError(f"density must be within 0..4, got {self.density}")
        if not 16 <= self.lidar_azimuths <= 4096:
            raise ValueError(f"lidar_azimuths must be within 16..4096, got {self.lidar_azimuths}")

    def as_dict(self) -> dict:
        """The options as JSON keeps them."""
        return {**asdict(self), "image_size": list(self.image_size)}
