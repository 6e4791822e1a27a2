"""torch.compile applied to parts of the model."""

import copy
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fsdbev.inference.model_builder import build_model, compile_parts


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.linear(x).tanh()


def make_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(Block(), torch.nn.Sequential(Block(), Block()))


def test_compiled_parts_give_the_same_and_keep_their_names():
    model = make_model()
    expected, names = model(torch.ones(2, 3)), list(model.state_dict())
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compile_parts(model, ["1"], backend=backend)
    torch.testing.assert_close(model(torch.ones(2, 3)), expected)
    assert len(graphs) == 1, "equal blocks share one graph"
    compiled = [block._compiled_call_impl is not None for block in (model[0], *model[1])]
    assert compiled == [False, True, True]
    assert expected.abs().sum() > 0 and list(model.state_dict()) == names
    torch.testing.assert_close(copy.deepcopy(model)(torch.ones(2, 3)), expected)
    assert len(graphs) == 1, "a copy is not compiled"


def test_unknown_part():
    with pytest.raises(ValueError, match=r"names 'neck'; the model has \['0', '1'\]"):
        compile_parts(make_model(), ["0", "neck"])


def test_training_with_compiled_parts(toy_config):
    cfg = toy_config("train.compile.enabled=True", "train.compile.parts=[]")
    assert list(build_model(cfg).state_dict())
    cfg.train.compile.parts = ["nothing"]
    with pytest.raises(ValueError, match="names 'nothing'"):
        build_model(cfg)


@pytest.mark.slow
def test_a_training_on_a_cpu_compiles_and_computes_the_same(synthetic_root, tmp_path):
    """The first iteration has a time limit, in seconds of one core: the machine may be busy."""
    root = Path(__file__).parents[2]
    command = [sys.executable, str(root / "tools" / "train_net.py"), "--config-file"]
    command += [str(root / "configs" / "fsdbev_tiny_synthetic.py"), "train.device=cpu"]
    command += ["train.max_iter=2", "train.log_period=1", "train.report.enabled=False"]
    command += [f"dataloader.dataroot={synthetic_root}"]
    env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    losses, logs, seconds = [], [], []
    for name, enabled in (("plain", False), ("compiled", True)):
        overrides = [f"train.output_dir={tmp_path / name}", f"train.compile.enabled={enabled}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([*command, *overrides], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        logs.append((tmp_path / name / "log.txt").read_text())
        lines = (tmp_path / name / "metrics.json").read_text().splitlines()
        losses.append([json.loads(line)["total_loss"] for line in lines if "total_loss" in line])
    assert len(losses[0]) == 2 and losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert "The first iteration also compiles backbone, neck" in logs[1]
    assert "compiles" not in logs[0] and list((tmp_path / "cache").rglob("*.so"))
    print(f"seconds of one core, plain and compiled: {seconds}")
    assert seconds[1] - seconds[0] < 600
