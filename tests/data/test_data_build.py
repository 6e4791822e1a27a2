"""Catalogs and data loaders."""

import gc
from itertools import islice
from pathlib import Path

import cv2
import pytest
import torch

from fsdbev.d2.config import LazyCall as L, LazyConfig, instantiate
from fsdbev.d2.data import DatasetCatalog, MetadataCatalog
from fsdbev.d2.evaluation import DatasetEvaluator, inference_on_dataset
from fsdbev.data import build, samplers
from fsdbev.data.build import (
    build_test_loader,
    build_train_loader,
    open_frames,
    open_nuscenes,
    register_nuscenes,
)
from fsdbev.structures import NUSCENES_CLASSES, ClassSet

ROOT = Path(__file__).parents[2]
VERSION = "v1.0-synth"


def batches(loader, count):
    return list(islice(loader, count))


def assert_same_batches(first, second):
    """Compares every value of every sample."""
    for a, b in zip(first, second, strict=True):
        for x, y in zip(a, b, strict=True):
            assert x.keys() == y.keys()
            for key, value in x.items():
                if isinstance(value, torch.Tensor):
                    assert torch.equal(value, y[key]), key
                elif key == "instances":
                    assert torch.equal(value.gt_boxes_3d.tensor, y[key].gt_boxes_3d.tensor)
                    assert torch.equal(value.gt_classes, y[key].gt_classes)
                else:
                    assert value == y[key], key


def test_registered_in_the_catalogs(synthetic_root, tmp_path):
    name = register_nuscenes(
        dataroot=synthetic_root, version=VERSION, split="synth_val", index_dir=None
    )
    assert name == "nuscenes_v1.0-synth_synth_val"
    dataset = DatasetCatalog.get(name)
    assert len(dataset) == 3 and dataset.name == name
    metadata = MetadataCatalog.get(name)
    assert metadata.thing_classes == list(NUSCENES_CLASSES.names) and metadata.split == "synth_val"
    with pytest.raises(FileNotFoundError, match="no index of nuscenes_v1.0-synth_train; make it"):
        open_nuscenes(dataroot=synthetic_root, version=VERSION, split="train")
    # Another folder under the same name replaces it.
    register_nuscenes(dataroot=tmp_path, version=VERSION, split="synth_val", index_dir=tmp_path)
    assert MetadataCatalog.get(name).dataroot == str(tmp_path)
    with pytest.raises(FileNotFoundError, match="prepare_nuscenes.py --dataroot .*synth_val"):
        DatasetCatalog.get(name)
    (tmp_path / "synth_val.arrow").write_bytes(b"an index of another version")
    with pytest.raises(
        ValueError, match="not a complete frame-index file .*prepare_nuscenes.py --d"
    ):
        DatasetCatalog.get(name)


def test_any_index_can_be_registered(rig, tmp_path):
    made = rig([(64, 48)])
    where = {"index": made.index.path, "dataroot": tmp_path}
    dataset = open_frames(name="my_rig", **where)
    assert len(dataset) == 3 and dataset.dataroot == tmp_path and dataset.label_dir is None
    assert len(DatasetCatalog.get("my_rig")) == 3
    metadata = MetadataCatalog.get("my_rig")
    assert metadata.thing_classes == list(NUSCENES_CLASSES.names)
    assert not hasattr(metadata, "evaluator_type")
    assert open_frames(name="my_rig", **where, label_dir="labels").label_dir == Path("labels")
    with pytest.raises(FileNotFoundError, match="no index of my_rig; write it .*custom_dataset.md"):
        open_frames(name="my_rig", index=tmp_path / "none.arrow", dataroot=tmp_path)


def test_training_is_the_same_for_any_number_of_workers(synthetic, mapper):
    """Another seed, or another draw of the same sample, has another augmentation."""

    def load(workers, seed=5):
        loader = build_train_loader(
            dataset=synthetic,
            mapper=mapper(),
            total_batch_size=2,
            num_workers=workers,
            seed=seed,
        )
        return batches(loader, 3)

    single = load(0)
    assert all(len(batch) == 2 for batch in single)
    assert_same_batches(single, load(2))
    other = load(0, seed=6)
    assert not torch.equal(single[0][0]["image_aug"], other[0][0]["image_aug"])
    dataset = build.MappedDataset(synthetic, mapper(), seed=0)
    first, later = dataset[build.Draw(1, 10)], dataset[build.Draw(1, 11)]
    assert first["sample_token"] == later["sample_token"]
    assert not torch.equal(first["image_aug"], later["image_aug"])


class WorkerState:
    """Mapper that returns the worker's number of threads, tracked and frozen objects."""

    def __call__(self, dataset, row, generator=None):
        threads = max(torch.get_num_threads(), cv2.getNumThreads())
        return threads, len(gc.get_objects()), gc.get_freeze_count()


def test_a_worker_has_one_thread_and_is_kept_for_the_next_epoch(synthetic):
    loader = build_test_loader(dataset=synthetic, mapper=WorkerState(), num_workers=2)
    workers = set()
    for _ in range(2):
        assert [threads for ((threads, _, _),) in loader] == [1] * 3
        workers |= {worker.pid for worker in loader._iterator._workers}
    assert len(workers) == 2


@pytest.mark.parametrize("build_loader", [build_train_loader, build_test_loader])
def test_garbage_collections_of_a_worker_leave_out_what_it_was_started_with(
    synthetic, build_loader
):
    sizes = {"total_batch_size": 1} if build_loader is build_train_loader else {}
    loader = build_loader(dataset=synthetic, mapper=WorkerState(), num_workers=1, **sizes)
    ((_, tracked, frozen),) = next(iter(loader))
    assert frozen > 50_000 and tracked < frozen / 20
    assert gc.get_freeze_count() < frozen  # this process collects as usual


@pytest.mark.parametrize("on_gpu", [False, True])
def test_loading_options(synthetic, mapper, monkeypatch, on_gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: on_gpu)
    for build_loader, more in (
        (build_train_loader, {"total_batch_size": 1}),
        (build_test_loader, {}),
    ):
        options = {"dataset": synthetic, "mapper": mapper(), **more}
        loader = build_loader(**options, num_workers=2, prefetch_factor=4)
        assert (loader.num_workers, loader.prefetch_factor) == (2, 4)
        assert loader.persistent_workers == (build_loader is build_test_loader)
        assert loader.pin_memory == on_gpu
        loader = build_loader(**options, num_workers=0)
        assert not loader.persistent_workers and loader.pin_memory == on_gpu


def test_a_run_continues_at_its_next_draw(synthetic, mapper):
    def loader():
        return build_train_loader(
            dataset=synthetic, mapper=mapper(), total_batch_size=2, num_workers=0, seed=1
        )

    expected = batches(loader(), 3)
    continued = loader()
    continued.sampler.start = 2 * 2
    assert_same_batches(batches(continued, 1), expected[2:])


def test_batch_is_split_over_ranks(synthetic, mapper, monkeypatch):
    monkeypatch.setattr(build.comm, "get_world_size", lambda: 2)
    options = {"dataset": synthetic, "mapper": mapper(), "num_workers": 0, "seed": 0}
    loaders = [
        build_train_loader(**options, total_batch_size=6, class_balanced=balanced)
        for balanced in (False, True)
    ]
    assert [loader.batch_size for loader in loaders] == [3, 3]
    assert loaders[1].sampler.epoch_size > loaders[0].sampler.epoch_size == 3
    for size in (5, 0):
        with pytest.raises(ValueError, match=f"total_batch_size is {size}"):
            build_train_loader(**options, total_batch_size=size)


def test_evaluation_loads_every_sample_once_in_order(synthetic, mapper):
    loader = build_test_loader(
        dataset=synthetic, mapper=mapper(training=False), batch_size=2, num_workers=1
    )
    tokens = [sample["sample_token"] for batch in loader for sample in batch]
    assert tokens == [synthetic.index[row].sample_token for row in range(3)]
    assert len(loader) == 2


class Tokens(DatasetEvaluator):
    """Evaluator that returns the tokens of its samples."""

    def reset(self):
        self.tokens = []

    def process(self, inputs, outputs):
        self.tokens += [sample["sample_token"] for sample in inputs]

    def evaluate(self):
        return {"tokens": self.tokens}


def test_evaluation_by_scene(rig, mapper, monkeypatch):
    """One scene for two ranks: the loader of the second rank is empty and can be evaluated."""
    dataset, tokens = rig([(64, 48)]), []
    monkeypatch.setattr(samplers.comm, "get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(samplers.comm, "get_rank", lambda rank=rank: rank)
        loader = build_test_loader(
            dataset=dataset, mapper=mapper(training=False), by_scene=True, num_workers=0
        )
        tokens.append(inference_on_dataset(lambda batch: batch, loader, Tokens())["tokens"])
    assert tokens == [["sample0", "sample1", "sample2"], []]


@pytest.fixture
def config():
    """The synthetic data config with those of model and training, as in every leaf config."""
    cfg = LazyConfig.load(str(ROOT / "configs/common/data/synthetic.py"))
    cfg.model = LazyConfig.load(str(ROOT / "configs/common/models/fsdbev_r50.py"), "model")
    cfg.train = LazyConfig.load(str(ROOT / "configs/common/train.py"), "train")
    cfg.dataloader.train.num_workers = cfg.dataloader.test.num_workers = 0
    return cfg


def test_one_key_sets_both_loaders_and_the_evaluator(config, synthetic_root, tmp_path):
    data = config.dataloader
    data.dataroot, data.image_size = str(synthetic_root), [64, 176]
    config.model.num_frames, config.train.output_dir = 3, str(tmp_path)
    train, test = instantiate(data.train), instantiate(data.test)
    batch = next(iter(train))
    assert len(batch) == data.train.total_batch_size
    assert batch[0]["images"].shape == (3, 6, 3, 64, 176)
    assert next(iter(test))[0]["images"].shape == (3, 6, 3, 64, 176)
    assert "gt_depth" in batch[0] and "gt_depth" not in next(iter(test))[0]
    assert train.sampler.seed == config.train.seed
    assert train.dataset.mapper.depth_bins == instantiate(config.model.depth_bins)
    evaluator = instantiate(data.evaluator)
    assert evaluator.dataroot == str(synthetic_root) and evaluator.split == "synth_val"


def test_cameras_classes_and_interval_of_a_config(config, synthetic_root):
    """They reach both loaders; camera dropout is for training only."""
    data = config.dataloader
    data.dataroot, data.cameras, data.frame_interval = str(synthetic_root), ["CAM_BACK"], 0.5
    data.train.mapper.camera_dropout, data.max_frame_gap = 0.25, 4
    loaders = [instantiate(data.train), instantiate(data.test)]
    for loader in loaders:
        assert loader.dataset.dataset.cameras == ("CAM_BACK",)
        assert loader.dataset.mapper.frame_interval == 0.5
        assert loader.dataset.mapper.max_frame_gap == 4
        assert next(iter(loader))[0]["images"].shape[1] == 1
    assert [loader.dataset.mapper.camera_dropout for loader in loaders] == [0.25, 0]
    config.model.classes = L(ClassSet)(names=["vehicle"])
    with pytest.raises(ValueError, match=r"has classes \['car', .* has \['vehicle'\]; .*--classes"):
        instantiate(data.test.dataset)


def test_config_finds_an_index_elsewhere(config, synthetic_root):
    data = config.dataloader
    data.dataroot, data.index_dir = "/nowhere", str(synthetic_root / "fsdbev" / VERSION)
    dataset = instantiate(data.test.dataset)
    assert len(dataset) == 3 and dataset.dataroot == Path("/nowhere")
    data.index_dir = "/nowhere/either"
    with pytest.raises(FileNotFoundError, match="/nowhere/either/synth_val.arrow"):
        instantiate(data.test.dataset)
