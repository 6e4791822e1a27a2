"""Event storage and the writers of a training. Runs on the built-in and on Detectron2."""

import json
import logging

import pytest
import torch

from fsdbev.d2.engine import default_writers
from fsdbev.d2.utils.events import (
    EventStorage,
    TensorboardXWriter,
    get_event_storage,
    has_event_storage,
)


def test_current_storage():
    assert not has_event_storage()
    with pytest.raises(AssertionError):
        get_event_storage()
    with EventStorage(3) as outer:
        assert outer.iter == 3
        with EventStorage() as inner:
            assert get_event_storage() is inner
        assert get_event_storage() is outer
    assert not has_event_storage()


def test_values_belong_to_iterations():
    with EventStorage(10) as storage:
        storage.put_scalar("a", 1)
        storage.iter = 11
        storage.put_scalars(a=3.0, b=5)
        with storage.name_scope("val"):
            storage.put_scalar("a", 7, cur_iter=4)
    assert storage.latest() == {"a": (3.0, 11), "b": (5.0, 11), "val/a": (7.0, 4)}
    assert storage.history("a").values() == [(1.0, 10), (3.0, 11)]
    with pytest.raises(KeyError):
        storage.history("c")


def test_a_loop_without_a_trainer():
    with EventStorage(4) as storage:
        storage.step()
        storage.put_scalar("a", 1.0)
        storage.put_scalar("b", 2.0, smoothing_hint=False)
    assert storage.iter == storage.iteration == 5
    storage.iter = torch.tensor(7)
    assert storage.iter == 7 and type(storage.iter) is int
    assert storage.latest()["a"] == (1.0, 5)
    assert storage.smoothing_hints() == {"a": True, "b": False}


def test_smoothing_is_a_median_over_the_last_iterations():
    with EventStorage() as storage:
        for storage.iter, value in enumerate([100.0, 1.0, 2.0, 9.0]):  # noqa: B020
            storage.put_scalar("noisy", value)
            storage.put_scalar("exact", value, smoothing_hint=False)
    assert storage.count_samples("noisy", 3) == 3
    smooth = storage.latest_with_smoothing_hint(3)
    assert smooth == {"noisy": (2.0, 3), "exact": (9.0, 3)}
    with pytest.raises(AssertionError):
        storage.put_scalar("noisy", 1.0, smoothing_hint=False)


@pytest.fixture
def writers(tmp_path):
    """The writers of console, metrics.json and TensorBoard, by the first letter of their class."""
    writers = {type(w).__name__[0]: w for w in default_writers(str(tmp_path), max_iter=100)}
    assert set(writers) == {"C", "J", "T"} and isinstance(writers["T"], TensorboardXWriter)
    return writers


def test_json_lines(writers, tmp_path):
    writer = writers["J"]
    with EventStorage() as storage:
        for storage.iter in range(4):
            storage.put_scalar("loss", storage.iter)
            storage.put_scalar("lr", 0.5 * storage.iter, smoothing_hint=False)
            if storage.iter % 2 == 1:
                writer.write()
        writer.write()  # nothing is new
        writer.close()
        again = default_writers(str(tmp_path))[1]  # of another run: appends its lines
        again.write()
        again.close()
    assert [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()] == [
        {"iteration": 1, "loss": 0.5, "lr": 0.5},
        {"iteration": 3, "loss": 1.5, "lr": 1.5},
        {"iteration": 3, "loss": 1.5, "lr": 1.5},
    ]


def test_console_line(writers, caplog, monkeypatch):
    printer = writers["C"]
    monkeypatch.setattr(printer, "logger", LOGGER)
    with EventStorage() as storage, caplog.at_level(logging.INFO, logger=LOGGER.name):
        storage.iter = 39
        storage.put_scalars(loss_a=0.25, other=3.0, time=2.0, data_time=0.125)
        storage.put_scalar("lr", 1e-4, smoothing_hint=False)
        printer.write()
        storage.iter = 100
        printer.write()
    (line,) = caplog.messages
    for part in ("eta: 0:02:00", "iter: 39", "loss_a: 0.25", "time: 2.0000", "lr: 0.0001"):
        assert part in line
    assert "data_time: 0.1250" in line and "other" not in line
    assert storage.latest()["eta_seconds"] == (120.0, 39)


LOGGER = logging.getLogger("test_console_line")


def test_remaining_time_without_a_timer(writers, caplog, monkeypatch):
    printer = writers["C"]
    monkeypatch.setattr(printer, "logger", LOGGER)
    with EventStorage() as storage, caplog.at_level(logging.INFO, logger=LOGGER.name):
        for storage.iter, seconds in ((0, 100.0), (2, 104.0)):
            monkeypatch.setattr("time.perf_counter", lambda seconds=seconds: seconds)
            printer.write()
    first, second = caplog.messages
    assert "eta" not in first
    assert "eta: 0:03:14" in second  # 97 iterations of 2 s


def test_tensorboard_file(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with EventStorage(5) as storage:
        writer = TensorboardXWriter(str(tmp_path))
        storage.put_scalar("loss", 2.0)
        writer.write()
        writer.write()
        writer.close()
    events = accumulators.EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(5, 2.0)]


def test_images_and_histograms_in_the_tensorboard_file(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with EventStorage(5) as storage:
        writer = TensorboardXWriter(str(tmp_path))
        storage.put_image("made", torch.zeros(3, 4, 6, dtype=torch.uint8))
        storage.put_histogram("weights", torch.tensor([0.0, 1.0, 1.0, 4.0]), 4)
        writer.write()
        writer.write()  # nothing is new
        storage.put_image("dropped", torch.zeros(3, 4, 6))
        storage.put_histogram("dropped", torch.ones(2))
        storage.clear_images()
        storage.clear_histograms()
        writer.write()
        writer.close()
    events = accumulators.EventAccumulator(str(tmp_path)).Reload()
    assert (events.Tags()["images"], events.Tags()["histograms"]) == (["made"], ["weights"])
    (image,), (histogram,) = events.Images("made"), events.Histograms("weights")
    assert (image.step, image.height, image.width) == (5, 4, 6)
    value = histogram.histogram_value
    assert (histogram.step, value.min, value.max, value.num) == (5, 0, 4, 4)
    assert (value.sum, value.sum_squares) == (6, 18)
    assert [pair for pair in zip(value.bucket_limit, value.bucket, strict=True) if pair[1]] == [
        (1.0, 1.0),
        (2.0, 2.0),
        (4.0, 1.0),
    ]
