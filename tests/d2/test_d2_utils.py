"""What comm, logger and seeding promise, whichever side of the door they come from."""

import logging
import random
from itertools import islice

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from fsdbev.d2.data import InferenceSampler, TrainingSampler, build_batch_data_loader
from fsdbev.d2.evaluation import DatasetEvaluator, DatasetEvaluators
from fsdbev.d2.utils import comm
from fsdbev.d2.utils.collect_env import collect_env_info
from fsdbev.d2.utils.env import seed_all_rng
from fsdbev.d2.utils.file_io import PathManager
from fsdbev.d2.utils.logger import log_every_n_seconds, setup_logger
from fsdbev.d2.utils.registry import Registry


def test_one_process():
    assert (comm.get_world_size(), comm.get_rank(), comm.get_local_rank()) == (1, 0, 0)
    assert comm.get_local_size() == 1 and comm.is_main_process()
    comm.synchronize()
    assert comm.gather("x") == ["x"] and comm.all_gather("x") == ["x"]
    losses = {"a": torch.tensor(1.0)}
    assert comm.reduce_dict(losses) == losses
    assert 0 <= comm.shared_random_seed() < 2**31


class Constant(DatasetEvaluator):
    def evaluate(self):
        return {"task": 1}


def _two_processes(rank, folder):
    """Runs as rank 0 and rank 1; an assertion that fails here fails the test."""
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    comm.create_local_process_group(2)
    assert (comm.get_world_size(), comm.get_rank()) == (2, rank)
    assert (comm.get_local_size(), comm.get_local_rank()) == (2, rank)
    assert comm.is_main_process() == (rank == 0)
    comm.synchronize()
    data = {"rank": rank, "long": list(range(1000 * rank))}
    everyone = [{"rank": r, "long": list(range(1000 * r))} for r in range(2)]
    assert comm.all_gather(data) == everyone
    assert comm.gather(data) == (everyone if rank == 0 else [])
    assert comm.gather(data, dst=1) == (everyone if rank == 1 else [])
    seeds = comm.all_gather(comm.shared_random_seed())
    assert seeds[0] == seeds[1]

    losses = {"b": torch.tensor(1.0 + rank), "a": torch.tensor(10.0 * rank)}
    mean, total = comm.reduce_dict(losses), comm.reduce_dict(losses, average=False)
    if rank == 0:
        assert {name: value.item() for name, value in mean.items()} == {"a": 5.0, "b": 1.5}
        assert {name: value.item() for name, value in total.items()} == {"a": 10.0, "b": 3.0}

    assert list(InferenceSampler(5)) == ([0, 1, 2] if rank == 0 else [3, 4])
    assert list(InferenceSampler(1)) == ([0] if rank == 0 else [])
    streams = comm.all_gather(list(islice(TrainingSampler(6), 3)))  # a shared seed is drawn
    assert sorted(streams[0] + streams[1]) == list(range(6))
    loader = build_batch_data_loader(list(range(8)), TrainingSampler(8, shuffle=False), 4)
    assert next(iter(loader)) == [rank, rank + 2]
    assert DatasetEvaluators([Constant()]).evaluate() == ({"task": 1} if rank == 0 else {})
    dist.destroy_process_group()


def test_two_processes(tmp_path):
    mp.start_processes(_two_processes, args=(str(tmp_path),), nprocs=2, start_method="spawn")


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
    logging.getLogger(f"{logger_name}.part").warning("look %d", 1)
    for handler in logger.handlers:
        handler.flush()
    printed, written = capsys.readouterr().out, (tmp_path / "log.txt").read_text()
    for text in (printed, written):
        assert text.count("look 1") == 1 and "WARNING" in text and f"{logger_name}.part" in text


def test_other_ranks_log_to_a_file_of_their_own(tmp_path, capsys, logger_name):
    logger = setup_logger(str(tmp_path / "run.log"), 3, name=logger_name)
    logger.info("quiet")
    for handler in logger.handlers:
        handler.flush()
    assert capsys.readouterr().out == ""
    assert "quiet" in (tmp_path / "run.log.rank3").read_text()


def test_log_every_n_seconds(caplog):
    with caplog.at_level(logging.INFO):
        for index in range(5):
            log_every_n_seconds(logging.INFO, f"message {index}", n=1000)
    assert caplog.messages == ["message 0"]
    assert caplog.records[0].name == __name__


def test_seed_all_rng():
    def numbers():
        return random.random(), np.random.rand(), torch.rand(()).item()

    state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_all_rng(3)
    first = numbers()
    seed_all_rng(3)
    assert numbers() == first
    seed_all_rng(None)
    assert numbers() != first
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])


def test_collect_env_info_names_versions():
    assert torch.__version__.split("+")[0] in collect_env_info()


def test_path_manager(tmp_path):
    path = str(tmp_path / "a" / "b.txt")
    PathManager.mkdirs(str(tmp_path / "a"))
    with PathManager.open(path, "w") as file:
        file.write("x")
    assert PathManager.isfile(path) and not PathManager.exists(path + "2")


def test_registry_refuses_a_name_twice():
    registry = Registry("test")

    @registry.register()
    class Thing:
        pass

    assert registry.get("Thing") is Thing
    with pytest.raises(AssertionError):
        registry.register(Thing)
    with pytest.raises(KeyError):
        registry.get("Other")
