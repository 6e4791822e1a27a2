"""tools/convert_checkpoint.py, on the small release checkpoint of tests/parity and on bad files."""

import os
import re
from collections import OrderedDict
from pathlib import Path

import convert_checkpoint
import pytest
import safetensors.torch
import torch
from cases import reference_state_dict
from release_shapes import release_shapes, without_memory
from small_model import CONFIG, SIZES

from fsdbev.checkpoint import (
    Form,
    ModelSettings,
    load_weights,
    read_checkpoint,
    read_weights,
    to_our_names,
)
from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.modeling.backbone.resnet import ResNet
from fsdbev.structures import NUSCENES_CLASSES, ClassSet

SMALL = ["--config-file", str(CONFIG), *SIZES]

#: Checkpoint formats of the release, of mmcv and of data-parallel code.
RELEASE_FILES = {
    "with optimizer": lambda w: {
        "meta": {"epoch": 24, "CLASSES": ("car", "bus"), "config": "a = 1\n", "mmcv_version": "1"},
        "state_dict": w,
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{}]},
    },
    "averaged": lambda w: {"epoch": 23, "state_dict": w, "updates": 57000},
    "bare": lambda w: w,
    "wrapped": lambda w: {"state_dict": OrderedDict((f"module.{k}", v) for k, v in w.items())},
}


@pytest.fixture(scope="module")
def release():
    """The weights in the release's format, an OrderedDict with metadata of the modules."""
    weights = OrderedDict(
        (k, torch.as_tensor(v)) for k, v in reference_state_dict("tiny_eval").items()
    )
    weights["img_backbone.conv1.weight"] = weights["img_backbone.conv1.weight"].half()
    weights._metadata = OrderedDict({"": {"version": 1}})
    return weights


@pytest.fixture
def save(tmp_path):
    def save(data, name="in.pth"):
        torch.save(data, tmp_path / name)
        return str(tmp_path / name)

    return save


@pytest.fixture
def fails(tmp_path, capsys):
    """Checks that the tool fails and leaves the folder unchanged; returns its message."""

    def contents():
        return {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}

    def fails(*arguments):
        before = contents()
        capsys.readouterr()
        assert convert_checkpoint.main(list(arguments)) == 1
        assert contents() == before
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ") and not captured.out
        return captured.err

    return fails


def small_model():
    config = LazyConfig.apply_overrides(LazyConfig.load(str(CONFIG)), SIZES)
    return instantiate(config.model)


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


@pytest.mark.parametrize("kind", ["with optimizer", "wrapped"])  # the next test has the others
def test_release_to_ours_and_back(release, save, tmp_path, capsys, kind):
    path = save(RELEASE_FILES[kind](release))
    ours, back = str(tmp_path / "ours.pth"), str(tmp_path / "back.pth")
    assert convert_checkpoint.main([path, ours, *SMALL]) == 0
    printed = capsys.readouterr().out
    assert "names of the FSD-BEV release" in printed and "858 tensors: backbone 318," in printed
    assert "all names and shapes fit " + str(CONFIG) in printed
    assert_same(torch.load(ours, weights_only=True)["model"], to_our_names(release))

    assert convert_checkpoint.main([ours, back, "--reverse", *SMALL]) == 0
    assert_same(torch.load(back, weights_only=True)["state_dict"], release)
    assert sorted(os.listdir(tmp_path)) == ["back.pth", "in.pth", "ours.pth"]


def test_every_format_loads_into_the_model(release, save, tmp_path):
    """Every format of train.init_checkpoint, without missing or unexpected parameters."""
    paths = [save(RELEASE_FILES[kind](release), f"{kind}.pth") for kind in RELEASE_FILES]
    for name, option in (("ours.safetensors", []), ("release.safetensors", ["--reverse"])):
        paths.append(str(tmp_path / name))
        assert convert_checkpoint.main([paths[0], paths[-1], *option, *SMALL]) == 0
    assert safetensors.torch.load_file(paths[-1]).keys() == release.keys()
    model = small_model()
    for path in paths:
        torch.nn.init.zeros_(model.head.shared_conv.conv.weight)
        assert load_weights(model, path, strict=True).num_problems() == 0
        weight = release["pts_bbox_head.shared_conv.conv.weight"]
        assert torch.equal(model.head.shared_conv.conv.weight, weight)


def test_averaged_weights_of_our_own_training(release, save, tmp_path):
    ours = to_our_names(release)
    raw = {name: torch.zeros_like(value) for name, value in ours.items()}
    training = {"model": raw, "ema": {"model": ours, "updates": 9}, "iteration": 3, "trainer": {}}
    out = str(tmp_path / "out.pth")
    assert convert_checkpoint.main([save(training), out, "--reverse", *SMALL]) == 0
    assert_same(torch.load(out, weights_only=True)["state_dict"], release)


@pytest.mark.parametrize("name", ["out.pth", "out.safetensors"])
@pytest.mark.parametrize("option", [[], ["--reverse"]])
def test_settings_are_kept(release, save, tmp_path, capsys, name, option):
    """Those of the data too, which the tool does not compare."""
    settings = {"model.classes": NUSCENES_CLASSES.to_dict(), "dataloader.image_size": [8, 16]}
    path = save({"model": to_our_names(release), "model_settings": settings})
    out = str(tmp_path / name)
    assert convert_checkpoint.main([path, out, *option, *SMALL]) == 0
    assert read_checkpoint(out)["model_settings"] == settings
    assert "settings: dataloader.image_size, model.classes\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["out.pth", "out.safetensors"])
def test_parts_in_half_precision(release, save, tmp_path, capsys, name):
    """Settings of other parts do not matter; vectors keep their precision."""
    ours, out = to_our_names(release), str(tmp_path / name)
    settings = {"model.grid.cell": 0.1, "model.classes": ClassSet(names=["car"]).to_dict()}
    images = ModelSettings.of(small_model()).of_parts(["neck"]).to_dict()
    assert images.keys() == {"model.pixel_mean", "model.pixel_std"}
    saved = {"model": ours, "model_settings": settings | images, "iteration": 9, "trainer": {}}
    path = save(saved)
    assert convert_checkpoint.main([path, out, "--half", "--parts", "neck", "head", *SMALL]) == 0
    assert "iteration: 9\n" in capsys.readouterr().out
    content = read_checkpoint(out)
    assert (content["model_settings"], content["iteration"]) == (images, 9)
    assert read_weights(out).iteration == 9
    assert content["model"].keys() == {k for k in ours if k.startswith(("neck.", "head."))}
    for key, value in content["model"].items():
        expected = ours[key].half() if ours[key].ndim > 1 else ours[key]
        assert value.dtype == expected.dtype and torch.equal(value, expected), key
    again = str(tmp_path / "again.pth")
    assert convert_checkpoint.main([out, again, "--parts", "neck", *SMALL]) == 0
    assert load_weights(small_model(), again, strict=False).parts()[0] == ["neck"]


def test_parts_and_numbers_that_cannot_be_written(release, save, fails, tmp_path):
    path, out = save({"model": to_our_names(release)}), str(tmp_path / "out.pth")
    error = fails(path, out, "--parts", "neck", "haed", *SMALL)
    assert "in.pth' has no haed; it has head, backbone, neck, " in error
    weights = to_our_names(release)
    weights["neck.lateral_convs.1.weight"] = weights["neck.lateral_convs.1.weight"] + 7e4
    error = fails(save({"model": weights}), out, "--half", *SMALL)
    assert re.search(r"neck\.lateral_convs\.1\.weight: 7e\+04 is not within .* float16", error)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"model.classes": ClassSet(names=NUSCENES_CLASSES.names[::-1]).to_dict()},
            r'model\.classes\.names: \["traffic_cone", .*\["car", ',
        ),
        ({"model.depth_bins.start": 13.0}, r"model\.depth_bins\.start: 13\.0 in .*, 1\.0 in"),
    ],
)
def test_settings_of_another_model_are_refused(release, save, fails, tmp_path, settings, message):
    path = save({"model": to_our_names(release), "model_settings": settings})
    error = fails(path, str(tmp_path / "out.pth"), *SMALL)
    assert re.search(rf"(?s)in\.pth: trained with other .*{message}.*--config-file", error)


def test_torchvision_backbone(save, tmp_path, fails):
    backbone = ResNet(depth=50, width=8).state_dict()
    weights = {k: v for k, v in backbone.items() if not k.endswith("num_batches_tracked")}
    path = save(weights | {"fc.weight": torch.zeros(2, 256), "fc.bias": torch.zeros(2)})
    out = str(tmp_path / "out.safetensors")
    assert convert_checkpoint.main([path, out, *SMALL]) == 0
    found = read_checkpoint(out)["model"]
    assert found.keys() == {f"backbone.{k}" for k in weights}
    assert torch.equal(found["backbone.layer4.2.conv3.weight"], weights["layer4.2.conv3.weight"])
    report = load_weights(small_model(), out, strict=False)
    assert not report.unexpected and not any(k.startswith("backbone.") for k in report.missing)
    assert "--reverse is for whole models" in fails(path, out + ".pth", "--reverse", *SMALL)


@pytest.mark.parametrize(
    ("weights", "models"),
    [
        (release_shapes(50), ["configs/fsdbev_r50_cbgs.py", "configs/fsdbev_r50_cbgs_bev256.py"]),
        (release_shapes(101), ["configs/fsdbev_r101_cbgs.py"]),
    ],
    ids=["R50", "R101"],
)
def test_model_is_found_by_its_weights(weights, models):
    args = convert_checkpoint.parse_arguments(["in", "out.pth"])
    weights = to_our_names(without_memory(weights))
    assert convert_checkpoint.check(weights, args, Form.RELEASE) == models
    del weights["backbone.layer3.3.conv1.weight"]
    with pytest.raises(
        ValueError, match=f"not fit {models[0]}; if it is.*--config-file\n.*\\(1\\)"
    ):
        convert_checkpoint.check(weights, args, Form.RELEASE)


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_depth_of_a_torchvision_resnet_is_found(depth):
    args = convert_checkpoint.parse_arguments(["in", "out.pth"])
    with torch.device("meta"):
        weights = to_our_names(ResNet(depth=depth).state_dict())
    assert convert_checkpoint.check(weights, args, Form.TORCHVISION) == [f"ResNet-{depth}"]


def test_parameters_that_do_not_fit_are_listed(release, save, tmp_path, fails):
    weights = dict(release)
    missing = ["img_roi_head.hm_conv.0.bias", "pts_bbox_head.shared_conv.bn.running_var"]
    for name in missing:
        del weights[name]
    unexpected = ["img_view_transformer.frustum", "img_backbone.layer3.6.conv1.weight"]
    weights |= dict.fromkeys(unexpected, torch.zeros(3))
    weights["img_neck.lateral_convs.1.conv.bias"] = torch.zeros(7)
    error = fails(save(weights), str(tmp_path / "out.pth"), *SMALL)
    *_, listing = error.partition("\n")
    assert [line.strip() for line in listing.strip().split("\n")] == [
        "not in the file (2):",
        *missing,
        "of another shape (1):",
        "img_neck.lateral_convs.1.conv.bias: (7,), not (32,)",
        "in the file but not in the model (2):",
        *unexpected,
    ]


def test_the_output_name_is_checked_first(fails, tmp_path):
    error = fails(str(tmp_path / "none.pth"), str(tmp_path / "out.ckpt"))
    assert "out.ckpt' must end in .pth or .safetensors" in error
    assert "none.pth' does not exist" in fails(str(tmp_path / "none.pth"), str(tmp_path / "o.pth"))


def test_nothing_is_overwritten_by_accident(release, save, tmp_path, fails, monkeypatch):
    path, out = save(release), save({"precious": torch.ones(1)}, "out.pth")
    assert "out.pth' already exists; --force" in fails(path, out, *SMALL)
    monkeypatch.chdir(tmp_path)
    assert "the same file" in fails(path, "./in.pth", "--force", *SMALL)
    assert "its folder does not exist" in fails(path, str(tmp_path / "none" / "o.pth"), *SMALL)
    (tmp_path / "folder.pth").mkdir()
    assert "it is a folder" in fails(path, "folder.pth", "--force", *SMALL)
    assert convert_checkpoint.main([path, out, "--force", *SMALL]) == 0
    assert len(read_checkpoint(out)["model"]) == 858


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_full_disk_leaves_the_old_file_and_no_other(release, save, fails, monkeypatch, ending):
    path, out = save(release), save({"precious": torch.ones(1)}, f"out{ending}")

    def fsync(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    assert "No space left" in fails(path, out, "--force", *SMALL)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1, 2], "contains a list, not a dict of weights"),
        ({"epoch": 3}, r"no weights: .*'epoch' \(int\)"),
        ({"a.weight": torch.ones(1)}, "no weights of FSD-BEV or of a ResNet.*1 others: a.weight"),
        ({"pts_bbox_head.a": torch.ones(1), "head.a": torch.ones(1)}, "twice.*pts_bbox_head.a"),
    ],
)
def test_file_that_is_no_checkpoint(save, fails, tmp_path, data, message):
    assert re.search(message, fails(save(data), str(tmp_path / "out.pth"), *SMALL))


def test_foreign_objects_and_truncated_files_have_a_remedy(release, save, fails, tmp_path):
    path, out = save({"state_dict": release, "meta": OrderedDict(path=Path("a"))}), "out.pth"
    assert "--foreign-objects extracts the weights" in fails(path, str(tmp_path / out), *SMALL)
    path = save(release)
    os.truncate(path, os.path.getsize(path) // 2)
    assert "damaged, cut short" in fails(path, str(tmp_path / out), *SMALL)


def test_parameters_that_the_release_lacks_cannot_be_reversed(save, tmp_path, fails):
    """Every name is listed; the same weights can be written under our names."""
    baseline = ["--config-file", str(tmp_path / "config.py")]
    (tmp_path / "config.py").write_text(
        "import torch\nfrom fsdbev.d2.config import LazyCall as L\n"
        "model = L(torch.nn.Linear)(in_features=2, out_features=1)\n"
    )
    path, out = save({"weight": torch.ones(1, 2), "bias": torch.ones(1)}), str(tmp_path / "out.pth")
    assert "no names for weight, bias" in fails(path, out, "--reverse", *baseline)
    assert convert_checkpoint.main([path, out, *baseline]) == 0


def test_overrides_need_a_config_file(capsys):
    with pytest.raises(SystemExit):
        convert_checkpoint.main(["in.pth", "out.pth", "model.depth_bins.step=2.0"])
    assert "overrides are for --config-file" in capsys.readouterr().err


def test_config_without_a_model(fails, save, tmp_path):
    config = tmp_path / "config.py"
    config.write_text("train = dict(max_iter=1)\n")
    path = save({"backbone.a": torch.ones(1)})
    assert "has no 'model'" in fails(path, str(tmp_path / "o.pth"), "--config-file", str(config))
