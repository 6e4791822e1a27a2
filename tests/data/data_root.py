"""A copy of the shared synthetic data set whose files a test can damage before preparing it."""

import json
import os
import shutil
from pathlib import Path

from fsdbev.data.nuscenes import splits
from fsdbev.data.nuscenes.check import check_nuscenes
from fsdbev.data.nuscenes.prepare import prepare_nuscenes

VERSION = "v1.0-synth"
SPLIT = "synth_train"


def contents(folder: Path) -> dict[Path, bytes]:
    """Returns the contents of all files, by path relative to the folder."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class DataRoot:
    """A nuScenes data root of hard links to shared files, and the output of its preparation."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tables = path / VERSION
        self.output = path.parent / "output"

    @classmethod
    def copy_of(cls, source: Path, path: Path) -> "DataRoot":
        """Links the files of another data root, except for its preparation."""
        ignored = shutil.ignore_patterns("fsdbev")
        shutil.copytree(source, path, ignore=ignored, copy_function=os.link)
        return cls(path)

    def table(self, name: str) -> list[dict]:
        return json.loads((self.tables / f"{name}.json").read_text())

    def write(self, path: str, content: bytes) -> None:
        """Replaces a file. Writing into it would change the shared file behind the link."""
        (self.path / path).unlink()
        (self.path / path).write_bytes(content)

    def write_table(self, name: str, records: list[dict]) -> None:
        self.write(f"{VERSION}/{name}.json", json.dumps(records).encode())

    def change(self, name: str, chosen=lambda record: True, **fields) -> None:
        """Sets fields of the first record of a table for which ``chosen`` returns True."""
        records = self.table(name)
        next(r for r in records if chosen(r)).update(fields)
        self.write_table(name, records)

    def change_all(self, name: str, **fields) -> None:
        """Sets fields of all records of a table."""
        self.write_table(name, [{**record, **fields} for record in self.table(name)])

    def first_sample(self) -> dict:
        """Returns the first sample of the split's only scene."""
        scenes = splits.split_scenes(self.path, VERSION, [SPLIT])[SPLIT]
        scene = next(s for s in self.table("scene") if s["name"] in scenes)
        return next(s for s in self.table("sample") if s["token"] == scene["first_sample_token"])

    def sensor_data(self, sample: dict, channel: str) -> dict:
        """Returns the record of a sample's image or sweep."""
        return next(
            record
            for record in self.table("sample_data")
            if record["sample_token"] == sample["token"] and f"/{channel}/" in record["filename"]
        )

    def prepare(self, workers: int = 0, **options):
        """Prepares the training split, or the split of the option ``scenes``, and checks that this
        leaves no unfinished file."""
        chosen = {} if "scenes" in options else {"splits": [SPLIT]}
        paths = {"dataroot": self.path, "version": VERSION, "output": self.output}
        try:
            prepared = prepare_nuscenes(**paths, workers=workers, **{**chosen, **options})
        finally:
            assert not list(self.output.rglob("*.tmp"))
        (split,) = prepared.values()
        return split

    def check(self, **options) -> list[tuple[str, str]]:
        """Checks the preparation; returns (kind, text) of all findings."""
        paths = {"dataroot": self.path, "version": VERSION, "output": self.output}
        return [(f.kind, f.text) for f in check_nuscenes(**paths, **options).findings]
