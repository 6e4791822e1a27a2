"""``detectron2.evaluation``, or its built-in replacement."""

from . import BACKEND

if BACKEND == "detectron2":
    from detectron2.evaluation import (
        DatasetEvaluator,
        DatasetEvaluators,
        inference_context,
        inference_on_dataset,
        print_csv_format,
    )
else:
    from ._builtin.evaluation import (
        DatasetEvaluator,
        DatasetEvaluators,
        inference_context,
        inference_on_dataset,
        print_csv_format,
    )

__all__ = [
    "DatasetEvaluator",
    "DatasetEvaluators",
    "inference_context",
    "inference_on_dataset",
    "print_csv_format",
]
