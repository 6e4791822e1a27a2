"""Loaders and evaluator for nuImages, for the training of image backbones."""

from fsdbev.d2.config import LazyCall as L
from fsdbev.data.build import build_test_loader, build_train_loader
from fsdbev.data.nuimages import ImageLabelMapper, NuImages
from fsdbev.data.transforms.image_aug import ImageAugmentation
from fsdbev.evaluation import ImageMaskEvaluator


def _images(version):
    return L(NuImages)(
        dataroot="${dataloader.dataroot}", version=version, classes="${model.classes}"
    )


def _mapper(training):
    return L(ImageLabelMapper)(image_aug="${dataloader.image_aug}", training=training)


dataloader = dict(
    dataroot="data/nuimages",
    image_size=[256, 704],
    image_aug=L(ImageAugmentation)(
        image_size="${dataloader.image_size}", scale=[0.9, 1.5], flip_prob=0.5, max_rotation=3.0
    ),
    train=L(build_train_loader)(
        dataset=_images("v1.0-train"),
        mapper=_mapper(training=True),
        total_batch_size=24,
        class_balanced=False,
        num_workers=1,
        seed="${train.seed}",
    ),
    test=L(build_test_loader)(
        dataset=_images("v1.0-val"), mapper=_mapper(training=False), batch_size=12, num_workers=1
    ),
    evaluator=L(ImageMaskEvaluator)(classes="${model.classes}"),
)
