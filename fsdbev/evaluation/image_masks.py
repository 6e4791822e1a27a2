"""Metric of class masks in images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fsdbev.d2.evaluation import DatasetEvaluator
from fsdbev.d2.utils import comm
from fsdbev.structures import ClassSet


class ImageMaskEvaluator(DatasetEvaluator):
    """Intersection over union of predicted class masks, over all images.

    A cell of a mask belongs to a class if most of its pixels do, and is predicted if the
    probability is above 0.5.

    Args:
        classes: the K classes.
    """

    def __init__(self, *, classes: ClassSet) -> None:
        self._names = classes.names
        self.reset()

    def reset(self) -> None:
        self._counts = np.zeros((2, len(self._names)), np.int64)

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Counts the cells of a batch.

        Args:
            inputs: samples with ``gt_objects`` (H, W) and ``gt_classes`` (M,).
            outputs: ``masks`` (K, h, w), probabilities.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            predicted = output["masks"].cpu() > 0.5
            class_of = torch.cat([torch.tensor([-1]), sample["gt_classes"]])
            class_map = class_of[sample["gt_objects"].long()]
            planes = torch.stack([class_map == k for k in range(len(self._names))]).float()
            true = torch.nn.functional.adaptive_avg_pool2d(planes, predicted.shape[-2:]) > 0.5
            both, either = predicted & true, predicted | true
            self._counts += torch.stack([both, either]).sum(dim=(2, 3)).numpy()

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Returns ``masks``: ``mIoU`` and the IoU of each class that occurs or is predicted, NaN of
        the others; None on all ranks but the first."""
        gathered = comm.gather(self._counts)
        if not comm.is_main_process():
            return None
        both, either = np.sum(gathered, axis=0)
        occurs = either > 0
        iou = np.divide(both, either, out=np.full(len(both), np.nan), where=occurs)
        mean = float(iou[occurs].mean()) if occurs.any() else float("nan")
        by_class = {f"IoU/{n}": float(v) for n, v in zip(self._names, iou, strict=True)}
        return {"masks": {"mIoU": mean, **by_class}}
