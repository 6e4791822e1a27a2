"""Names of ``detectron2.data``, its samplers and collation."""

from . import BACKEND

if BACKEND == "detectron2":
    from detectron2.data import (
        DatasetCatalog,
        DatasetFromList,
        MapDataset,
        MetadataCatalog,
        build_batch_data_loader,
    )
    from detectron2.data.build import trivial_batch_collator, worker_init_reset_seed
    from detectron2.data.common import ToIterableDataset
    from detectron2.data.samplers import InferenceSampler, TrainingSampler
else:
    from ._builtin.data import (
        DatasetCatalog,
        DatasetFromList,
        InferenceSampler,
        MapDataset,
        MetadataCatalog,
        ToIterableDataset,
        TrainingSampler,
        build_batch_data_loader,
        trivial_batch_collator,
        worker_init_reset_seed,
    )

__all__ = [
    "DatasetCatalog",
    "DatasetFromList",
    "InferenceSampler",
    "MapDataset",
    "MetadataCatalog",
    "ToIterableDataset",
    "TrainingSampler",
    "build_batch_data_loader",
    "trivial_batch_collator",
    "worker_init_reset_seed",
]
