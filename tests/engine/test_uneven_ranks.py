"""Ranks with unequal data: without boxes, with few samples or none."""

import argparse
import json

import pytest
import uneven_ranks

from fsdbev.engine.launch import launch

pytestmark = pytest.mark.slow

LENGTHS = [1, 2, 5]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Results of both ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    job = {"num_gpus": 2, "num_machines": 1, "machine_rank": 0, "dist_url": "auto"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        args = argparse.Namespace(**job, output=str(folder), lengths=LENGTHS)
        launch(uneven_ranks.work, args)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_rank_without_boxes_counts_as_half_of_the_gradient(ranks):
    """Rank 1, then rank 0, then rank 1 has no boxes: under ``train.ddp`` the gradients are the mean
    of those of the ranks, and every parameter has one."""
    for differences in (rank["differences"] for rank in ranks):
        assert len(differences) == 3
        assert all(0 <= difference < 1e-5 for difference in differences), differences


def test_evaluation_of_fewer_samples_than_ranks_and_of_uneven_shares(ranks, tmp_path):
    """With one sample, one of two ranks has none."""
    first, second = (rank["metrics"] for rank in ranks)
    assert [metrics["count"] for metrics in first] == LENGTHS and second == [None] * len(LENGTHS)
    single = uneven_ranks.evaluate_few(LENGTHS, str(tmp_path))
    for both, expected in zip(first, single, strict=True):
        assert both["error"] == pytest.approx(expected["error"], rel=1e-6)
