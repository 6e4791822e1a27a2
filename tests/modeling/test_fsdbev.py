"""The FSD-BEV model: losses, results, gradients, rigs and precision."""

import copy

import pytest
import torch

from fsdbev.d2.config import LazyConfig, instantiate
from fsdbev.d2.modeling import META_ARCH_REGISTRY
from fsdbev.modeling import FSDBEV, MSFE, ForegroundBranch
from fsdbev.structures import Boxes3D

BOX_LOSSES = ("heatmap", "xy", "z", "dim", "yaw", "vel")
TASK_LOSSES = {f"task{i}.loss_{name}" for i in range(6) for name in BOX_LOSSES}


def train_step(model, samples):
    losses = model.train()(samples)
    sum(losses.values()).backward()
    return losses


def test_training_returns_every_loss(build_model, make_samples):
    model = build_model()
    assert META_ARCH_REGISTRY.get("FSDBEV") is type(model) is FSDBEV
    losses = train_step(model, make_samples(training=True))
    assert set(losses) == TASK_LOSSES | {"loss_depth", "loss_distill", "loss_foreground"}
    assert all(loss.dim() == 0 and loss.isfinite() for loss in losses.values())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert not {"pixel_mean", "pixel_std"} & set(model.state_dict())


def test_evaluation_returns_instances(build_model, make_samples):
    model = build_model("model.head.score_threshold=0.0").eval()
    outputs = model(make_samples())
    assert [set(output) for output in outputs] == [{"instances"}] * 2
    found = outputs[0]["instances"]
    assert isinstance(found.pred_boxes_3d, Boxes3D) and len(found) > 0
    assert found.scores.shape == found.pred_classes.shape == (len(found),)
    assert found.pred_classes.dtype == torch.int64 and not found.scores.requires_grad


@pytest.mark.parametrize(("num_cameras", "num_frames"), [(1, 3), (7, 1)])
def test_any_rig_and_any_number_of_frames(build_model, make_samples, num_cameras, num_frames):
    model = build_model(f"model.num_frames={num_frames}")
    sizes = {"num_cameras": num_cameras, "num_frames": num_frames}
    losses = train_step(model, make_samples(**sizes, training=True))
    assert all(loss.isfinite() for loss in losses.values())
    assert len(model.eval()(make_samples(batch_size=1, **sizes))) == 1


def test_samples_do_not_mix_in_evaluation(build_model, make_samples):
    model, samples = build_model("model.head.score_threshold=0.0").eval(), make_samples()
    for sample, output in zip(samples, model(samples), strict=True):
        single = model([sample])[0]["instances"]
        torch.testing.assert_close(single.scores, output["instances"].scores, rtol=1e-4, atol=1e-5)


def test_training_without_teacher(build_model, make_samples):
    model = build_model("model.teacher_fill=null")
    batch_sizes = []
    model.bev_encoder.register_forward_hook(lambda m, args, out: batch_sizes.append(len(out)))
    losses = train_step(model, make_samples(training=True))
    assert set(losses) == TASK_LOSSES | {"loss_depth", "loss_foreground"}
    assert batch_sizes == [2]


def test_the_teacher_alone_detects_by_labels(build_model, make_samples):
    model = build_model("model.student=false", file="ablations/fsd.py")
    samples = make_samples(training=True)
    losses = train_step(model, samples)
    assert set(losses) == TASK_LOSSES | {"loss_depth", "loss_foreground"}
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    # The pooled depth is that of the labels: another depth map gives another BEV map.
    pooled = []
    model.bev_encoder.register_forward_hook(lambda m, args, out: pooled.append(args[0]))
    model.eval()(samples)
    nearer = [{**sample, "gt_depth": 0.8 * sample["gt_depth"]} for sample in samples]
    model(nearer)
    assert pooled[0].shape[0] == 2 and not torch.allclose(*pooled)
    with pytest.raises(ValueError, match="gt_depth.*with_labels"):
        model(make_samples())
    with pytest.raises(ValueError, match="teacher_fill"):
        build_model("model.student=false", "model.teacher_fill=null", file="ablations/fsd.py")


@pytest.mark.parametrize("row", ["baseline", "fsd", "fsd_pci", "fsd_pci_msfe"])
def test_every_parameter_of_an_ablation_learns(build_model, make_samples, row):
    """DistributedDataParallel fails on a parameter without gradient."""
    model = build_model(file=f"ablations/{row}.py")
    assert isinstance(model.msfe, MSFE if row == "fsd_pci_msfe" else ForegroundBranch)
    losses = train_step(model, make_samples(training=True))
    assert losses["loss_foreground"] > 0
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    model.eval()(make_samples())


def test_other_frames_update_batch_norms_without_gradients(build_model, make_samples):
    model, graphs = build_model().train(), []
    model.depth_net.register_forward_hook(lambda m, args, out: graphs.append(out[1].requires_grad))
    model(make_samples(training=True))
    assert graphs == [True, False]
    assert model.backbone.bn1.num_batches_tracked == 2
    assert model.temporal_stage.stage[0].bn1.num_batches_tracked == 2
    assert model.bev_encoder.neck.merge[1].num_batches_tracked == 1


def test_each_step_draws_a_bev_paste_that_moves_boxes(build_model, make_samples):
    model, samples = build_model().train(), make_samples(training=True)
    targets, original = [], model.head.targets
    model.head.targets = lambda instances: targets.append(instances) or original(instances)
    model(samples)
    model(samples)
    count = len(samples[0]["instances"])
    assert [len(i) for step in targets for i in step] == [2 * count] * 4
    first, second = (step[0].gt_boxes_3d.tensor for step in targets)
    assert not torch.allclose(first, second)
    untouched = make_samples(training=True)[0]["instances"].gt_boxes_3d
    assert torch.equal(samples[0]["instances"].gt_boxes_3d.tensor, untouched.tensor)


def test_fixed_paste_transforms_make_training_repeatable(build_model, make_samples):
    model = build_model("model.depth_net.dropout=0.0").train()
    model.bev_paste.sample_transforms = lambda batch_size: torch.eye(4).repeat(batch_size, 1, 1)
    first, second = (model(make_samples(training=True)) for _ in range(2))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-4)


def test_loss_weights(build_model, make_samples):
    plain = build_model("model.bev_paste=null", "model.depth_net.dropout=0.0")
    heavy = build_model(
        "model.bev_paste=null",
        "model.depth_net.dropout=0.0",
        "model.depth_loss_weight=6.0",
        "model.distill_loss_weight=3.0",
        "model.foreground_loss_weight=5.0",
    )
    samples = make_samples(training=True)
    before, after = plain.train()(samples), heavy.train()(samples)
    for name, factor in (("loss_depth", 2), ("loss_distill", 3), ("loss_foreground", 5)):
        torch.testing.assert_close(after[name], factor * before[name], rtol=1e-4, atol=0)


def test_mixed_precision_trains(build_model, make_samples):
    model, dtypes = build_model().train(), {}

    def record(name):
        def hook(module, args, output):
            dtypes[name] = (output if torch.is_tensor(output) else output[0]).dtype

        getattr(model, name).register_forward_hook(hook)

    for name in ("neck", "depth_net", "view_transform", "temporal_stage", "bev_encoder"):
        record(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(make_samples(training=True))
    assert dtypes.pop("neck") == torch.bfloat16 and set(dtypes.values()) == {torch.float32}
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    sum(losses.values()).backward()


def test_float_images_give_the_features_of_bytes(build_model, make_samples):
    model, samples = build_model().eval(), make_samples()
    features = model.extract_image_features(samples[0]["images"][0]).features
    same = model.extract_image_features(samples[0]["images"][0].float()).features
    assert torch.equal(features, same)


def test_samples_must_fit_the_model_and_each_other(build_model, make_samples):
    model = build_model().eval()
    with pytest.raises(ValueError, match="takes 2 frames, but images have 3"):
        model(make_samples(num_frames=3))
    samples = make_samples()
    samples[1]["images"] = samples[1]["images"][..., :-16]
    with pytest.raises(ValueError, match="image size and number of frames, but images of sample"):
        model(samples)
    with pytest.raises(ValueError, match="got 'none'"):
        build_model("model.teacher_fill=none")


@pytest.mark.parametrize(
    "override", ["model.head.grid.cell=3.2", "model.view_transform.depth_bins.stop=41.0"]
)
def test_parts_with_another_grid_or_other_bins_are_refused(load_config, override):
    config = load_config()
    part, name = override.split(".")[1:3]
    config.model[part][name] = copy.deepcopy(config.model[name])
    config = LazyConfig.apply_overrides(config, [override])
    with pytest.raises(ValueError, match=rf"model.{part}.{name} is .*set it to \${{model.{name}}}"):
        instantiate(config.model)
