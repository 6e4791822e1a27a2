"""``detectron2.data``, or its built-in replacement."""

from . import BACKEND

if BACKEND == "detectron2":
    # detectron2.data re-exports neither the functions of build nor the samplers used here.
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.data.build import trivial_batch_collator, worker_init_reset_seed
    from detectron2.data.samplers import InferenceSampler
else:
    from ._builtin.data import (
        DatasetCatalog,
        InferenceSampler,
        MetadataCatalog,
        trivial_batch_collator,
        worker_init_reset_seed,
    )

__all__ = [
    "DatasetCatalog",
    "InferenceSampler",
    "MetadataCatalog",
    "trivial_batch_collator",
    "worker_init_reset_seed",
]
