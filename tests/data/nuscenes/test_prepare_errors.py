"""Errors of a preparation name the file and the remedy: inconsistent tables, an output that cannot
be written. tests/bad_inputs has single bad records."""

import errno
import os

import pytest
from data_root import SPLIT, VERSION, DataRoot

from fsdbev.data.nuscenes.output_folder import exclusive_access
from fsdbev.utils import folder_lock
from fsdbev.utils.folder_lock import LOCK


@pytest.fixture
def root(synthetic_root, tmp_path):
    return DataRoot.copy_of(synthetic_root, tmp_path / "data")


def refused(root, *parts, error=ValueError, **options):
    """Checks that the preparation raises an error with these words and removes its lock."""
    with pytest.raises(error) as raised:
        root.prepare(**options)
    for part in parts:
        assert part in str(raised.value)
    assert not (root.output / LOCK).exists()


def of_sample(sample):
    return lambda record: record.get("sample_token") == sample["token"]


@pytest.mark.parametrize(
    "content", ["[]", '{"synth_train": "scene"}', '{"synth_train": [1]}', '{"../x": []}']
)
def test_malformed_splits(root, content):
    root.write(f"{VERSION}/splits.json", content.encode())
    refused(root, f"{root.tables}/splits.json: ")


@pytest.mark.parametrize(
    ("table", "field", "target"),
    [
        ("sample_data", "calibrated_sensor_token", "calibrated_sensor"),
        ("sample_annotation", "visibility_token", "visibility"),
        ("instance", "category_token", "category"),
        ("sample_annotation", "prev", "sample_annotation"),
    ],
)
def test_reference_to_a_missing_record(root, table, field, target):
    root.change_all(table, **{field: "nowhere"})
    refused(root, f"{root.tables}/{target}.json: has no record 'nowhere'", "unpack")


def test_missing_map_image(root):
    root.change("map", filename="maps/none.png")
    refused(root, f"{root.tables}: the tables don't fit together", "maps/none.png")


def test_lidarseg_with_the_old_category_table(root):
    records = root.table("category")
    for record in records:
        del record["index"]
    root.write_table("category", records)
    refused(root, f"{root.tables}/category.json: category 'noise' has no index", "nuScenes-lidarse")
    (root.tables / "lidarseg.json").unlink()
    assert root.prepare().statistics.samples == 3


@pytest.mark.parametrize("index", [1, 256, 1.5])
def test_lidarseg_index_that_is_ambiguous_or_none(root, index):
    root.change("category", index=index)
    refused(root, f"{root.tables}/category.json: the categories' lidarseg indices must be diff")


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("workers", [0, 1])
def test_sweep_that_is_cut_short(root, workers):
    record = root.sensor_data(root.first_sample(), "LIDAR_TOP")
    content = (root.path / record["filename"]).read_bytes()
    root.write(record["filename"], content[:-7])
    message = f"{root.path / record['filename']}: {len(content) - 7} bytes are not a whole number"
    refused(root, message, "fetch it again", workers=workers)
    root.write(record["filename"], content)
    root.prepare()
    assert len(list((root.output / "point_labels").iterdir())) == 3


def test_unknown_category(root):
    records = root.table("category")
    car = next(r for r in records if r["name"] == "vehicle.car")
    car["name"] = "vehicle.Car"
    root.write_table("category", records)
    refused(root, f"{root.tables}/category.json: neither nuScenes nor", "vehicle.Car", "--backgr")
    index = root.prepare(background=["vehicle.Car"]).index
    assert 0 not in index.annotations(0).class_ids


def test_unknown_visibility_level(root):
    root.change_all("visibility", level="v0-100")
    refused(root, f"{root.tables}/visibility.json: record ", "level 'v0-100' is not one of v0-40")


def test_no_visibility_is_unknown(root):
    root.change_all("sample_annotation", visibility_token="")
    assert not root.prepare().index.annotations(0).visibility.any()


def test_files_may_be_links_out_of_the_data_root(root):
    record = root.sensor_data(root.first_sample(), "LIDAR_TOP")
    (root.path / record["filename"]).rename(root.path.parent / "elsewhere.bin")
    (root.path / record["filename"]).symlink_to(root.path.parent / "elsewhere.bin")
    assert root.prepare().statistics.samples == 3


def test_sample_without_a_camera(root):
    record = root.sensor_data(root.first_sample(), "CAM_BACK")
    rest = [r for r in root.table("sample_data") if r["token"] != record["token"]]
    root.write_table("sample_data", rest)
    refused(root, "sample_data.json: has no key frame of CAM_BACK", record["sample_token"])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("next", "other", "which belongs to scene"),
        ("next", "", "its chain has 1 of the scene's 3 samples"),
        ("prev", "other", "expected ''"),
    ],
)
def test_broken_chain_of_samples(root, field, value, message):
    first = root.first_sample()
    other = next(s for s in root.table("sample") if s["scene_token"] != first["scene_token"])
    root.change(
        "sample",
        lambda r: r["token"] == first["token"],
        **{field: other["token"] if value == "other" else value},
    )
    refused(root, f"{root.tables}/sample.json: ", message, "unpack")


def test_object_in_two_places_at_a_time(root):
    sample = root.first_sample()
    records = [r for r in root.table("sample_annotation") if of_sample(sample)(r)]
    records = [r for r in records if not r["prev"]]
    root.change(
        "sample_annotation",
        lambda r: r["token"] == records[0]["token"],
        next=records[1]["token"],
    )
    refused(root, "sample_annotation.json: record ", "two positions at the same time")


def test_output_that_can_not_be_written(root, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    before = sorted(root.path.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(folder_lock.FileLock, "acquire", fail)
        refused(root, "output: can't be written (Read-only", "--output", error=PermissionError)
    root.prepare()
    assert sorted(root.path.rglob("*")) == before


def test_second_run_at_the_same_time(root):
    with exclusive_access(root.output):
        with pytest.raises(BlockingIOError, match=f"process {os.getpid()} on "):
            root.prepare()
        assert [path.name for path in root.output.iterdir()] == [LOCK]
    root.prepare()
    assert not (root.output / LOCK).exists()


def test_lock_of_a_killed_run_is_taken_over(root):
    root.output.mkdir()
    (root.output / LOCK).write_text("process 1 on elsewhere")
    root.prepare()
    assert sorted(path.name for path in root.output.iterdir()) == ["point_labels", f"{SPLIT}.arrow"]
