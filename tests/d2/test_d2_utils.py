"""Communication between processes and their logs. Runs on the built-in and on Detectron2."""

import logging

import pytest
import torch

from fsdbev.d2.data import InferenceSampler
from fsdbev.d2.engine import launch
from fsdbev.d2.evaluation import DatasetEvaluator, inference_on_dataset
from fsdbev.d2.utils import comm
from fsdbev.d2.utils.logger import setup_logger


def test_one_process():
    assert (comm.get_world_size(), comm.get_rank(), comm.get_local_size()) == (1, 0, 1)
    assert comm.get_local_rank() == 0
    assert comm.reduce_dict({"a": torch.tensor(2.0)}) == {"a": 2}
    assert comm.is_main_process()
    comm.synchronize()
    assert comm.gather("x") == ["x"]
    assert 0 <= comm.shared_random_seed() < 2**31


class Constant(DatasetEvaluator):
    def evaluate(self):
        return {"task": 1}


def _main(folder):
    """Runs as rank 0 and rank 1; a failed assertion fails the test."""
    rank = comm.get_rank()
    assert (comm.get_world_size(), comm.get_local_size()) == (2, 2)
    assert comm.is_main_process() == (rank == 0) and comm.get_local_rank() == rank
    losses = {"a": torch.tensor(1.0 + rank), "b": torch.tensor(10.0 * rank)}
    if rank:
        losses = dict(reversed(losses.items()))
    means, sums = comm.reduce_dict(losses), comm.reduce_dict(losses, average=False)
    assert rank == 1 or (means == {"a": 1.5, "b": 5} and sums == {"a": 3, "b": 10})
    assert losses["a"] == 1 + rank  # unchanged
    comm.synchronize()
    data = {"rank": rank, "long": list(range(1000 * rank))}
    everyone = [{"rank": r, "long": list(range(1000 * r))} for r in range(2)]
    assert comm.gather(data) == (everyone if rank == 0 else [])
    assert comm.gather(data, dst=1) == (everyone if rank == 1 else [])
    seeds = comm.gather(comm.shared_random_seed())
    assert rank == 1 or seeds[0] == seeds[1]
    assert list(InferenceSampler(5)) == ([0, 1, 2] if rank == 0 else [3, 4])
    metrics = inference_on_dataset(str, [1], [Constant()])
    assert metrics == ({"task": 1} if rank == 0 else {})
    (folder / f"rank{rank}").touch()
    comm.synchronize()
    # Detectron2 does not, and gloo's threads sometimes abort a process that ends with its group.
    torch.distributed.destroy_process_group()


def test_two_processes(tmp_path):
    launch(_main, 2, dist_url="auto", args=(tmp_path,))
    assert {path.name for path in tmp_path.iterdir()} == {"rank0", "rank1"}


@pytest.fixture
def logger_name(request):
    name = f"test_logger_{request.node.name}"
    yield name
    logger = logging.getLogger(name)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)


def test_rank_0_logs_to_the_console_and_a_file(tmp_path, capsys, logger_name):
    logger = setup_logger(str(tmp_path), name=logger_name, color=False)
    assert setup_logger(str(tmp_path), name=logger_name, color=False) is logger
    logging.getLogger(f"{logger_name}.part").warning("message %d", 1)
    for handler in logger.handlers:
        handler.flush()
    printed, written = capsys.readouterr().out, (tmp_path / "log.txt").read_text()
    for text in (printed, written):
        assert text.count("message 1") == 1 and "WARNING" in text and f"{logger_name}.part" in text


def test_other_ranks_log_to_separate_files(tmp_path, capsys, logger_name):
    logger = setup_logger(str(tmp_path / "run.log"), 3, name=logger_name)
    logger.info("quiet")
    for handler in logger.handlers:
        handler.flush()
    assert capsys.readouterr().out == ""
    assert "quiet" in (tmp_path / "run.log.rank3").read_text()
