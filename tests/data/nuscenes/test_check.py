"""Check of a preparation: findings with remedies; it changes no file."""

import json
import os
import shutil

import pytest
from PIL import Image

from fsdbev.data.index.frame_index import FrameIndex, write_index
from fsdbev.data.labels.point_labels import read_label_header, read_point_labels, write_point_labels
from fsdbev.data.nuscenes.check import REMEDIES, CheckReport, Finding, check_nuscenes
from fsdbev.data.nuscenes.prepare import prepare_nuscenes
from fsdbev.structures import NUSCENES_CLASSES, ClassSet

VERSION = "v1.0-synth"
SPLIT = "synth_train"


@pytest.fixture
def root(synthetic_root, tmp_path):
    """A copy of the prepared set. Its files are hard links: replace them, never write to them."""
    shutil.copytree(synthetic_root, tmp_path / "data", copy_function=os.link)
    return tmp_path / "data"


def replace(path, content):
    path.unlink()
    path.write_bytes(content)


def state(folder):
    return {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.rglob("*")}


def findings(root, full=False):
    """Returns (kind, text) of all findings, with relative paths; checks that no file changed."""
    before = state(root)
    report = check_nuscenes(dataroot=root, version=VERSION, full=full)
    assert state(root) == before
    return [(f.kind, f.text.replace(f"{root}/", "")) for f in report.findings]


def first(root):
    """Returns the split's first frame and its label file."""
    output = root / "fsdbev" / VERSION
    index = FrameIndex(output / f"{SPLIT}.arrow")
    return index[0], output / "point_labels" / f"{index[0].sample_token}.arrow"


@pytest.mark.parametrize("full", [False, True])
def test_no_findings(root, full):
    assert findings(root, full) == []
    report = check_nuscenes(dataroot=root, version=VERSION, splits=[SPLIT])
    (line,) = report.lines()
    assert line.startswith("synth_train: 3 samples of 1 scenes, cameras CAM_FRONT_LEFT, CAM_FRONT")
    assert "point labels of 3 samples" in line


def test_nothing_prepared(root):
    shutil.rmtree(root / "fsdbev")
    assert [kind for kind, _ in findings(root)] == ["index", "index"]


def test_files_of_the_preparation(root):
    _, label = first(root)
    output = label.parent.parent
    content = label.read_bytes()
    (output / "synth_val.arrow").unlink()
    (output / "point_labels" / ".x.arrow.77777777.tmp").write_bytes(b"")
    replace(label, content[: len(content) // 2])
    (unfinished, a), (labels, b), (index, c) = findings(root)
    assert (unfinished, labels, index) == ("unfinished file", "point labels", "index")
    assert a.endswith(".x.arrow.77777777.tmp")
    assert label.name in b and "not a complete point-labels file" in b
    assert "synth_val.arrow: no such frame-index file" in c
    label.unlink()
    assert "no such point-labels file" in dict(findings(root))["point labels"]
    prepare_nuscenes(dataroot=root, version=VERSION)
    assert label.read_bytes() == content and findings(root) == []


def test_split_of_ones_own_with_a_damaged_index(root, caplog):
    prepare_nuscenes(dataroot=root, version=VERSION, scenes=["scene-0001"], split_name="few")
    path = root / "fsdbev" / VERSION / "few.arrow"
    assert findings(root) == []
    path.write_bytes(path.read_bytes()[:2000])
    ((kind, text),) = findings(root)
    assert kind == "index" and "few.arrow: not a complete frame-index file" in text
    prepare_nuscenes(dataroot=root, version=VERSION)
    assert "counts as missing, because it can't be read" in caplog.text


def rewritten_labels(root, change, channels=6, source=None, classes=NUSCENES_CLASSES):
    frame, label = first(root)
    header = read_label_header(label)
    labels = [*read_point_labels(label, NUSCENES_CLASSES).values()]
    label.unlink()
    write_point_labels(
        label,
        change(labels)[:channels],
        frame.select(frame.channels[:channels]),
        source=source or header["source"],
        classes=classes,
        statistics=header["statistics"],
    )


def test_labels_of_other_cameras_tables_and_classes(root):
    def unchanged(labels):
        return labels

    rewritten_labels(root, unchanged, classes=ClassSet(names=NUSCENES_CLASSES.names))
    assert "made for other classes" in dict(findings(root))["point labels"]
    prepare_nuscenes(dataroot=root, version=VERSION, workers=0)
    rewritten_labels(root, unchanged, source="another")
    assert "made from other tables (another)" in dict(findings(root))["point labels"]
    prepare_nuscenes(dataroot=root, version=VERSION, workers=0)
    rewritten_labels(root, unchanged, channels=5)
    assert "has no labels of camera CAM_BACK_RIGHT" in dict(findings(root))["point labels"]


def test_labels_outside_of_the_image(root):
    def moved(labels):
        labels[2].sweep.u[:1] = 161
        return labels

    rewritten_labels(root, moved)
    ((kind, text),) = findings(root)
    assert kind == "point labels" and "CAM_FRONT_RIGHT are outside" in text


def test_tables_that_are_others_now(root):
    path = root / VERSION / "log.json"
    replace(path, path.read_bytes() + b"\n")
    found = findings(root)
    assert [kind for kind, _ in found] == ["index", "index"]
    assert "synth_train.arrow: was made from other tables" in found[0][1]
    prepare_nuscenes(dataroot=root, version=VERSION)
    assert findings(root) == []


def test_index_of_other_content(root):
    path = root / "fsdbev" / VERSION / f"{SPLIT}.arrow"
    index = FrameIndex(path)
    rows = [(index[row], index.annotations(row)) for row in range(3)]
    objects = rows[0][1]
    rows[0] = (rows[0][0], objects.select(objects.class_ids != objects.class_ids[0]))
    info = {key: index.info[key] for key in ("source", "lidarseg_classes")}
    lidarseg = json.loads(info["lidarseg_classes"])
    info["lidarseg_classes"] = json.dumps([*lidarseg[1:], -1])
    path.unlink()
    write_index(path, rows, index.classes, info)
    texts = [text for kind, text in findings(root) if kind == "index"]
    assert len(texts) == 2 and "its lidarseg categories" in texts[0]
    assert "different number of objects" in texts[1] and rows[0][0].sample_token in texts[1]


def test_split_that_grew(root):
    path = root / VERSION / "splits.json"
    splits = json.loads(path.read_text())
    splits[SPLIT] += splits["synth_val"]
    replace(path, json.dumps(splits).encode())
    ((kind, text),) = findings(root)
    assert kind == "index" and "lacks samples: 3 of 6" in text


@pytest.mark.parametrize("full", [False, True])
def test_images(root, full):
    paths = [root / path for path in first(root)[0].image_paths]
    content = paths[0].read_bytes()
    half = len(content) // 2
    damage = {
        content + bytes(16): "its bytes have changed",
        content[:half]: "its bytes have changed",
        content[:half] + bytes(512) + content[half + 512 :]: "its bytes have changed",
        content[:100]: "can't be decoded",
        b"": "can't be decoded",
    }
    for path, damaged in zip(paths, damage, strict=False):
        replace(path, damaged)
    paths[-1].unlink()
    found = findings(root, full)
    parts = [*damage.values(), "no such image"]
    assert [kind for kind, _ in found] == ["image"] * len(parts)
    for path, (_, text), part in zip(paths, found, parts, strict=True):
        assert path.name in text and part in text
    with Image.open(paths[0]) as image:
        image.resize((80, 45)).save(paths[0].with_name("small.jpg"))
    paths[0].with_name("small.jpg").replace(paths[0])
    assert "differs from (160, 90) in the index" in findings(root)[0][1]


@pytest.mark.parametrize("full", [False, True])
def test_sweeps(root, full):
    frame = first(root)[0]
    sweep, labels = root / frame.lidar.path, root / frame.lidar.lidarseg_path
    content = sweep.read_bytes()
    for broken, part in ((b"", "0 bytes"), (content[:-1], "whole"), (content[:-20], "labels for")):
        replace(sweep, broken)
        ((kind, text),) = findings(root, full)
        assert kind == "sweep" and part in text
    replace(sweep, content)
    replace(labels, bytes([99]) * (len(content) // 20))
    assert [kind for kind, _ in findings(root, full)] == ["sweep"] * full
    labels.unlink()
    assert "no such file" in dict(findings(root, full))["sweep"]


def test_findings_are_counted_and_the_first_ones_shown():
    report = CheckReport(
        ["s"], [Finding("image", str(i)) for i in range(9)] + [Finding("index", "x")]
    )
    lines = list(report.lines(limit=2))
    assert lines[0] == "s" and lines[1] == f"index: 1 found; {REMEDIES['index']}"
    assert lines[2:] == [
        "  x",
        f"image: 9 found; {REMEDIES['image']}",
        "  0",
        "  1",
        "  ... and 7 more",
    ]


def test_command_line(root, run_tool, capsys):
    def run(*arguments):
        status = run_tool("prepare_nuscenes", "--dataroot", root, "--version", VERSION, *arguments)
        return status, capsys.readouterr().out

    code, printed = run("--check", "--workers", 1, "--splits", SPLIT)
    assert code == 0 and f"no problems in {root}/fsdbev/{VERSION}" in printed
    assert "--check full" in printed
    first(root)[1].unlink()
    code, printed = run("--check", "full", "--workers", 0)
    assert code == 1 and "point labels: 1 found; run again without --check" in printed
