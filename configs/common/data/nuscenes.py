"""Loaders and evaluator for nuScenes. Folders, splits, sizes and augmentation are defined once.

A config with this ``dataloader`` also needs ``model`` (for its grid and number of frames) and
``train`` (for seed and output folder).
"""

from fsdbev.d2.config import LazyCall as L
from fsdbev.data.build import build_test_loader, build_train_loader, open_nuscenes
from fsdbev.data.mapper import MultiViewMapper
from fsdbev.data.transforms.bev_aug import BEVAugmentation
from fsdbev.data.transforms.image_aug import ImageAugmentation
from fsdbev.evaluation import NuScenesEvaluator


def _dataset(split):
    return L(open_nuscenes)(
        dataroot="${dataloader.dataroot}",
        version="${dataloader.version}",
        split=split,
        index_dir="${dataloader.index_dir}",
        classes="${dataloader.classes}",
        cameras="${dataloader.cameras}",
    )


def _mapper(training, **options):
    return L(MultiViewMapper)(
        image_aug="${dataloader.image_aug}",
        bev_aug="${dataloader.bev_aug}",
        grid="${dataloader.grid}",
        num_frames="${dataloader.num_frames}",
        frame_spacing="${dataloader.frame_spacing}",
        frame_interval="${dataloader.frame_interval}",
        max_frame_gap="${dataloader.max_frame_gap}",
        reduced_decoding="${dataloader.reduced_decoding}",
        depth_bins="${model.depth_bins}",
        frame_combination="${dataloader.frame_combination}",
        pseudo_points="${dataloader.pseudo_points}",
        training=training,
        **options,
    )


dataloader = dict(
    # --dataroot, --version and --output of tools/prepare_nuscenes.py
    dataroot="data/nuscenes",
    version="v1.0-trainval",
    index_dir="${dataloader.dataroot}/fsdbev/${dataloader.version}",
    train_split="train",
    test_split="val",
    classes="${model.classes}",
    # names of the cameras to use, such as ["CAM_FRONT"]; null: all
    cameras=None,
    # (H, W) of the network image, frames of a sample and the samples between them
    image_size=[256, 704],
    # decode JPEG files at a half or less of their size where that suffices: faster, slightly other
    # pixels
    reduced_decoding=False,
    num_frames="${model.num_frames}",
    frame_spacing=1,
    # seconds between the frames instead of frame_spacing, for recordings of other rates
    frame_interval=None,
    # without frame_interval, the key frame replaces one that is further away in time than this
    # multiple of the usual distance; inf: no limit
    max_frame_gap=2.5,
    # point cloud intensification of the labels (docs/model.md, "Training data")
    frame_combination=True,
    pseudo_points=True,
    grid="${model.grid}",
    image_aug=L(ImageAugmentation)(
        image_size="${dataloader.image_size}",
        scale=[0.5, 1.25],
        flip_prob=0.5,
        max_rotation=5.4,
        scale_depth=True,
    ),
    bev_aug=L(BEVAugmentation)(max_rotation=22.5, scale=[0.95, 1.05], flip_prob=0.5),
    train=L(build_train_loader)(
        dataset=_dataset("${dataloader.train_split}"),
        # augmentations of the pixels, such as L(ColorJitter)(brightness=0.2)
        mapper=_mapper(training=True, camera_dropout=0.0, augmentations=[]),
        total_batch_size=64,
        class_balanced=True,
        num_workers=4,
        prefetch_factor=2,
        seed="${train.seed}",
        max_bad_samples="${train.max_bad_samples}",
    ),
    test=L(build_test_loader)(
        dataset=_dataset("${dataloader.test_split}"),
        mapper=_mapper(training=False),
        batch_size=1,
        by_scene=False,
        num_workers=4,
        prefetch_factor=2,
    ),
    evaluator=L(NuScenesEvaluator)(
        dataset="${dataloader.test.dataset}",
        classes="${dataloader.classes}",
        # with dataloader.cameras: "ignore" leaves objects without a 2D box in any of them out of
        # the ground truth, "count" does not
        unseen_objects="ignore",
        dataroot="${dataloader.dataroot}",
        version="${dataloader.version}",
        split="${dataloader.test_split}",
        output_dir="${train.output_dir}",
        # whether nuScenes' devkit computes the metrics as well; "auto": only with --eval-only
        official="auto",
    ),
)
