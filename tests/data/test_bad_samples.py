"""Samples that cannot be loaded: a bounded number is replaced in training, none in evaluation."""

from itertools import islice

import pytest

from fsdbev.data.build import MappedDataset, SampleError, build_test_loader, build_train_loader
from fsdbev.data.samplers import Draw


class Tokens:
    """Mapper that returns a sample's token and a random draw, and raises for the bad tokens."""

    def __init__(self, *bad, error=OSError):
        self.bad = bad
        self.error = error

    def __call__(self, dataset, row, generator=None):
        token = dataset.index[row].sample_token
        if token in self.bad:
            raise self.error(f"{token}.jpg: is damaged")
        drawn = None if generator is None else generator.random()
        return {"sample_token": token, "drawn": drawn}


@pytest.fixture
def dataset(rig):
    return rig([(64, 48)], count=6)


def loaded(dataset, mapper, workers=0, count=20, **options):
    loader = build_train_loader(
        dataset=dataset,
        mapper=mapper,
        total_batch_size=2,
        class_balanced=False,
        num_workers=workers,
        seed=3,
        **options,
    )
    return [sample for batch in islice(loader, count) for sample in batch]


def test_the_first_bad_sample_ends_a_training_and_is_named(dataset):
    with pytest.raises(SampleError, match="sample sample4: sample4.jpg: is damaged"):
        loaded(dataset, Tokens("sample4"))
    with pytest.raises(ZeroDivisionError):  # an error of the code is not a bad sample
        loaded(dataset, Tokens("sample4", error=ZeroDivisionError), max_bad_samples=9)


def test_a_bad_sample_is_replaced_by_another_one(dataset):
    samples = loaded(dataset, Tokens("sample4"), max_bad_samples=1)
    replaced = [sample for sample in samples if "replaced" in sample]
    assert len(samples) == 40 and 5 <= len(replaced) <= 7  # 40 draws of 6 rows
    assert {s["replaced"] for s in replaced} == {"sample sample4: sample4.jpg: is damaged"}
    assert not any(sample["sample_token"] == "sample4" for sample in samples)
    assert len({sample["sample_token"] for sample in replaced}) > 1
    others = [s for s in loaded(dataset, Tokens()) if s["sample_token"] != "sample4"]
    assert others == [sample for sample in samples if "replaced" not in sample]


def test_what_takes_its_place_is_the_same_for_any_number_of_workers(dataset):
    mapper = Tokens("sample1", "sample4")
    in_process = loaded(dataset, mapper, max_bad_samples=9)
    assert in_process == loaded(dataset, mapper, workers=2, max_bad_samples=9)
    assert any("replaced" in sample for sample in in_process)


def test_a_data_set_of_bad_samples_is_an_error(dataset):
    bad = MappedDataset(dataset, Tokens(*(f"sample{i}" for i in range(6))), 0, 1000)
    with pytest.raises(SampleError, match="sample2.jpg: is damaged; 5 repl.*the last: sample s"):
        bad[Draw(2, 0)]
    with pytest.raises(ValueError, match="max_bad_samples must be at least 0, got -1"):
        MappedDataset(dataset, Tokens(), max_bad_samples=-1)


def test_the_loader_has_the_limit(dataset):
    options = {"dataset": dataset, "mapper": Tokens(), "total_batch_size": 1, "num_workers": 0}
    assert build_train_loader(**options).dataset.max_bad_samples == 0
    assert build_train_loader(**options, max_bad_samples=7).dataset.max_bad_samples == 7


def undecodable(message):
    """Raises an error that cannot be rebuilt from its message, as a worker's errors are."""
    raise UnicodeDecodeError("utf-8", message.encode(), 0, 1, message)


@pytest.mark.parametrize(("workers", "error"), [(0, OSError), (1, undecodable)])
def test_evaluation_never_skips(dataset, workers, error):
    mapper = Tokens("sample2", error=error)
    loader = build_test_loader(dataset=dataset, mapper=mapper, num_workers=workers)
    with pytest.raises(SampleError, match="sample sample2: .*sample2.jpg: is damaged"):
        list(loader)
