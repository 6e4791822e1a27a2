"""Samples with different numbers of cameras in one batch: each view counts as in a batch alone.

In float64, BatchNorm in evaluation mode: every loss is a quotient whose numerator and denominator,
before the release's bounds and small constants, are the sums over the samples alone, and gradients
are those of the losses formed from these sums.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fsdbev.config.loading import load_config
from fsdbev.d2.config import instantiate
from fsdbev.data.fake import fake_samples
from fsdbev.inference.streaming import StreamingPredictor
from fsdbev.modeling.center_head.losses import (
    LOSS_NAMES,
    gaussian_focal_loss,
    heatmaps_of,
    regression_errors,
)
from fsdbev.modeling.center_head.targets import REGRESSION

CAMERAS = (3, 1, 2)
IMAGE_SIZE = (64, 96)
CONFIGS = (
    "configs/fsdbev_tiny_synthetic.py",
    "configs/ablations/tiny/fsd_pci.py",
    "projects/BEVDepth/configs/bevdepth_tiny_synthetic.py",
    "projects/SABEV/configs/sabev_tiny_synthetic.py",
)


def build(path):
    cfg = load_config(path, ["model.grid.x_range=[-16,16]", "model.grid.y_range=[-16,16]"])
    torch.manual_seed(0)
    return instantiate(cfg.model).double()


def mixed_samples(model, training):
    sizes = dict(num_frames=model.num_frames, image_size=IMAGE_SIZE, training=training)
    return [
        fake_samples(1, num_cameras=count, seed=number, **sizes)[0]
        for number, count in enumerate(CAMERAS)
    ]


def train_without_statistics(model):
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.Dropout):
            module.eval()
    return model


class Terms:
    """Records numerator, denominator and the rule to form the loss of them, for each loss."""

    def __init__(self, model, monkeypatch):
        self.model, self.found = model, {}
        for name in ("image_losses", "bev_losses"):
            monkeypatch.setattr(model, name, getattr(self, name))
        self.losses = type(model)

    def add(self, name, numerator, denominator, form):
        self.found[name] = (numerator, torch.as_tensor(denominator).double(), form)

    def image_losses(self, key_frame, labels, batched_inputs):
        model = self.model
        if hasattr(model, "depth_loss_weight"):
            scales = getattr(key_frame, "scales", None)
            probabilities = [key_frame.depth_prob]
            if scales is not None:
                probabilities = [scale.depth.softmax(dim=1) for scale in scales]
            for number, probability in enumerate(probabilities):
                self._depth(f"loss_depth {number}", probability, labels, len(probabilities))
            for number, scale in enumerate(scales or ()):
                self._semantic(f"loss_semantic {number}", scale.semantic, labels, len(scales))
        if hasattr(model, "foreground_loss_weight"):
            logits = key_frame.image.logits
            target = labels.foreground.double()
            if logits.dim() == 4:
                target = torch.cat([s["gt_heatmap"] for s in batched_inputs]).double()
            self._foreground(logits, target)
        return self.losses.image_losses(model, key_frame, labels, batched_inputs)

    def _depth(self, name, probability, labels, scales):
        foreground, background = 0.9, 0.1
        if type(self.model).__name__ == "BEVDepth":
            foreground = background = 1.0
        target = labels.distribution.double()
        entropy = F.binary_cross_entropy(probability, target, reduction="none").sum(dim=1)
        weight = torch.where(labels.foreground, foreground, background) * labels.known
        weight, factor = weight.double(), self.model.depth_loss_weight / scales

        def form(numerator, denominator):
            return factor * numerator / denominator.clamp(min=0.1)

        self.add(name, (entropy * weight).sum(), weight.sum(), form)

    def _semantic(self, name, logits, labels, scales):
        target = labels.foreground.long()[:, None]
        log_prob = logits.log_softmax(dim=1).gather(1, target).squeeze(1)
        loss = -log_prob * (1 - log_prob.exp()) ** 2 * labels.known
        factor = self.model.semantic_loss_weight / scales

        def form(numerator, denominator):
            return factor * numerator / denominator.clamp(min=1)

        self.add(name, loss.sum(), labels.known.sum(), form)

    def _foreground(self, logits, target):
        p, squared = logits.sigmoid().clamp(1e-4, 1 - 1e-4), target.square()
        positive = (p.log() * (1 - p).square() * squared).sum()
        negative = ((1 - p).log() * p.square() * (target == 0)).sum()

        def form(numerator, denominator):
            return self.model.foreground_loss_weight * numerator / denominator

        self.add("loss_foreground", -(positive + negative), squared.sum(), form)

    def bev_losses(self, bev_feats, predictions, batched_inputs, transforms):
        model, batch = self.model, len(batched_inputs)
        targets = model.head.targets([sample["instances"] for sample in batched_inputs])
        stacked = len(bev_feats) // batch
        logits, errors = heatmaps_of(predictions), regression_errors(predictions, targets)
        for i, heatmap in enumerate(targets.heatmaps):
            focal = gaussian_focal_loss(logits[i].unflatten(0, (-1, batch)), heatmap).sum()
            peaks = stacked * (heatmap == 1).sum()
            self.add(f"task{i}.loss_heatmap", focal, peaks, _heatmap_form)
            boxes = stacked * (targets.task == i).sum()
            parts = errors[i].split(list(REGRESSION.values()))
            for branch, part in zip(REGRESSION, parts, strict=True):
                weighted = part.sum() * (model.head.velocity_weight if branch == "vel" else 1)
                self.add(f"task{i}.loss_{LOSS_NAMES[branch]}", weighted, boxes, self._box_form)
        if stacked == 2:
            student, teacher = bev_feats.chunk(2)
            norm = torch.linalg.vector_norm(teacher, dim=1, keepdim=True) + 1e-7
            distance = (student / norm - teacher / norm).square().sum()
            self.add("loss_distill", distance, norm.numel(), self._distill_form)
        return self.losses.bev_losses(model, bev_feats, predictions, batched_inputs, transforms)

    def _box_form(self, numerator, denominator):
        return self.model.head.box_weight * numerator / (denominator.clamp(min=1e-4) + 1e-4)

    def _distill_form(self, numerator, denominator):
        return self.model.distill_loss_weight * numerator / denominator


def _heatmap_form(numerator, denominator):
    return numerator / denominator.clamp(min=1)


def relative(a, b):
    return float(((a - b).abs().max() / b.abs().max().clamp(min=1e-30)).detach())


@pytest.mark.parametrize("path", CONFIGS)
def test_losses_and_gradients_are_formed_of_the_samples_sums(path, monkeypatch):
    model = train_without_statistics(build(path))
    samples = mixed_samples(model, training=True)
    terms = Terms(model, monkeypatch)
    losses = model(samples)
    together = terms.found
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(sum(losses.values()), parameters, allow_unused=True)

    alone = []
    for sample in samples:
        terms.found = {}
        model([sample])
        alone.append(terms.found)
    formed = 0
    for name, (numerator, denominator, form) in together.items():
        numerators = torch.stack([each[name][0] for each in alone])
        denominators = torch.stack([each[name][1] for each in alone])
        assert relative(numerators.sum(), numerator) < 1e-10, name
        assert relative(denominators.sum(), denominator) < 1e-10, name
        formed = formed + form(numerators.sum(), denominators.sum())
    assert relative(formed, sum(losses.values())) < 1e-10
    expected = torch.autograd.grad(formed, parameters, allow_unused=True)
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in expected)
    for found, wanted in zip(gradients, expected, strict=True):
        assert (found is None) == (wanted is None)
        assert found is None or wanted.abs().max() == 0 or relative(found, wanted) < 1e-10


@pytest.mark.parametrize("path", CONFIGS)
def test_predictions_equal_those_alone(path):
    model = build(path).eval()
    samples = mixed_samples(model, training=False)
    with torch.no_grad():
        together = [found["instances"] for found in model(samples)]
        alone = [model([sample])[0]["instances"] for sample in samples]
        streamed = [found["instances"] for found in StreamingPredictor(model)(samples)]
    assert sum(map(len, alone)) > 0
    for found in (together, streamed):
        for one, other in zip(found, alone, strict=True):
            assert torch.equal(one.pred_classes, other.pred_classes)
            torch.testing.assert_close(one.scores, other.scores, rtol=1e-10, atol=0)
            boxes, expected = one.pred_boxes_3d.tensor, other.pred_boxes_3d.tensor
            torch.testing.assert_close(boxes, expected, rtol=1e-9, atol=1e-9)


def test_samples_of_other_sizes_are_named_with_the_remedy():
    model = build(CONFIGS[0]).eval()
    one, other = mixed_samples(model, training=False)[:2]
    other["images"] = other["images"][..., :48]
    message = r"image size .* sample fake-0-1 is .* sample fake-1-1 .*one mapper, or in separate"
    with pytest.raises(ValueError, match=message):
        model([one, other])
    with pytest.raises(ValueError, match="agree in image size.*separate batches"):
        StreamingPredictor(model)([one, other])
