"""Ranks that do not have the same to do: no boxes, few samples, none."""

import argparse
import json

import pytest
from uneven_ranks import compare_gradients, evaluate_few

from fsdbev.engine.launch import launch


def of_ranks(work, folder, num_gpus, **options):
    """What each rank wrote."""
    job = {"num_gpus": num_gpus, "num_machines": 1, "machine_rank": 0, "dist_url": "auto"}
    launch(work, argparse.Namespace(**job, output=str(folder), **options))
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(num_gpus)]


def test_rank_without_boxes_counts_as_half_of_the_gradient(tmp_path, monkeypatch):
    """Rank 1 sees nothing, then rank 0, then rank 1: under ``train.ddp`` the gradients are the mean
    of what each rank gets alone, and no parameter is without."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for differences in of_ranks(compare_gradients, tmp_path, 2):
        assert len(differences) == 3
        assert all(0 <= difference < 1e-5 for difference in differences), differences


def test_evaluation_of_fewer_samples_than_ranks_and_of_uneven_shares(tmp_path, monkeypatch):
    """With one sample, two of three ranks have none."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folders = [tmp_path / name for name in ("alone", "three")]
    for folder in folders:
        folder.mkdir()
    lengths = [1, 2, 4, 7]
    (alone,) = of_ranks(evaluate_few, folders[0], 1, lengths=lengths)
    first, *others = of_ranks(evaluate_few, folders[1], 3, lengths=lengths)
    assert [first[str(length)]["count"] for length in lengths] == lengths
    for length in map(str, lengths):
        assert first[length]["error"] == pytest.approx(alone[length]["error"], rel=1e-6)
        assert all(other[length] is None for other in others)
