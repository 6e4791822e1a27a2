"""Data: frame index, point labels, augmentation, targets, mapper, samplers, loaders.

The public names are imported at first use: most modules need PyTorch, whose import takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsdbev.utils.lazy_names import lazy_names

if TYPE_CHECKING:
    from fsdbev.data.build import (
        MappedDataset,
        build_test_loader,
        build_train_loader,
        open_frames,
        open_nuscenes,
        register_frames,
        register_nuscenes,
    )
    from fsdbev.data.dataset import FrameDataset
    from fsdbev.data.fake import fake_samples
    from fsdbev.data.index.frame_index import FrameIndex, write_index
    from fsdbev.data.index.records import Annotations, Frame, Lidar
    from fsdbev.data.io.rig_file import read_rig
    from fsdbev.data.mapper import MultiViewMapper
    from fsdbev.data.nuscenes.prepare import label_rows, prepare_nuscenes
    from fsdbev.data.samplers import ClassBalancedSampler, EpochSampler, SceneSampler
    from fsdbev.data.transforms.bev_aug import BEVAugmentation
    from fsdbev.data.transforms.image_aug import ImageAugmentation
    from fsdbev.data.transforms.photometric import ColorJitter

__all__ = [
    "Annotations",
    "BEVAugmentation",
    "ClassBalancedSampler",
    "ColorJitter",
    "EpochSampler",
    "Frame",
    "FrameDataset",
    "FrameIndex",
    "ImageAugmentation",
    "Lidar",
    "MappedDataset",
    "MultiViewMapper",
    "SceneSampler",
    "build_test_loader",
    "build_train_loader",
    "fake_samples",
    "label_rows",
    "open_frames",
    "open_nuscenes",
    "prepare_nuscenes",
    "read_rig",
    "register_frames",
    "register_nuscenes",
    "write_index",
]

#: Public name -> module that defines it.
_HOMES = {
    "Annotations": "fsdbev.data.index.records",
    "BEVAugmentation": "fsdbev.data.transforms.bev_aug",
    "ClassBalancedSampler": "fsdbev.data.samplers",
    "ColorJitter": "fsdbev.data.transforms.photometric",
    "EpochSampler": "fsdbev.data.samplers",
    "Frame": "fsdbev.data.index.records",
    "FrameDataset": "fsdbev.data.dataset",
    "FrameIndex": "fsdbev.data.index.frame_index",
    "ImageAugmentation": "fsdbev.data.transforms.image_aug",
    "Lidar": "fsdbev.data.index.records",
    "MappedDataset": "fsdbev.data.build",
    "MultiViewMapper": "fsdbev.data.mapper",
    "SceneSampler": "fsdbev.data.samplers",
    "build_test_loader": "fsdbev.data.build",
    "build_train_loader": "fsdbev.data.build",
    "fake_samples": "fsdbev.data.fake",
    "label_rows": "fsdbev.data.nuscenes.prepare",
    "open_frames": "fsdbev.data.build",
    "open_nuscenes": "fsdbev.data.build",
    "prepare_nuscenes": "fsdbev.data.nuscenes.prepare",
    "read_rig": "fsdbev.data.io.rig_file",
    "register_frames": "fsdbev.data.build",
    "register_nuscenes": "fsdbev.data.build",
    "write_index": "fsdbev.data.index.frame_index",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
