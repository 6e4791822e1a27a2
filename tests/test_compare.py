"""tools/compare.py: refuses unequal settings, runs each training once, reports the results.

All tests except the last one use a fake training script.
"""

import fcntl
import json
import os
import signal
import statistics
import time
from pathlib import Path
from types import SimpleNamespace

import compare
import pytest
from command_line import interrupt_on_signals
from comparison import plot, runs
from comparison.report import BEGIN, END

ROOT = Path(__file__).parents[1]

CONFIG = """
from fsdbev.model_zoo import get_config

dataloader, lr_multiplier, model, optimizer, train = get_config(
    "fsdbev_tiny_synthetic.py", ("dataloader", "lr_multiplier", "model", "optimizer", "train")
)
"""

#: Fake train_net.py. Files in its folder control its behaviour; it records its calls.
FAKE_TRAIN_NET = """
import json, os, signal, sys, time
from pathlib import Path

here = Path(__file__).parent
overrides = dict(text.split("=", 1) for text in sys.argv[1:] if "=" in text)
output = Path(overrides["train.output_dir"].strip('"'))
name, seed = output.parent.name, int(overrides["train.seed"])
with open(here / "calls.txt", "a") as file:
    file.write(json.dumps([name, seed, sys.argv[1:], os.environ["OMP_NUM_THREADS"]]) + "\\n")

def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    sys.exit("the condition was not met")

if (here / "one at a time").exists():
    slot = os.open(here / "slot", os.O_CREAT | os.O_EXCL)  # fails if there are two
    time.sleep(0.2)
if (here / "together").exists():
    (here / f"{name}-{seed}").touch()
    wait_for(lambda: (here / "a-0").exists() and (here / "b-0").exists())
if (here / "forever").exists():
    def end(*_):
        (output / "ended").touch()
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    (here / f"{name}-{seed}").touch()
    wait_for(lambda: False)
if (here / f"fail-{name}-{seed}").exists():
    sys.exit("the loss is NaN\\nand that is the end")
if (here / f"vanish-{name}-{seed}").exists():
    sys.exit(0)
lines = [{"iteration": i, "time": 0.5 + seed} for i in (19, 39)]
(output / "metrics.json").write_text("\\n".join(map(json.dumps, lines)) + '\\n{"iteration": 5')
metrics = json.loads((here / "metrics.json").read_text())[name][seed]
(output / "evaluation.json").write_text(json.dumps({"nuscenes": metrics}))
if (here / "one at a time").exists():
    os.remove(here / "slot")
"""


class Workplace:
    """A folder with configs, the fake training script and the tool's output."""

    def __init__(self, folder, dataroot, capsys):
        self.folder, self.out, self.capsys = folder, folder / "out", capsys
        self.common = [f'dataloader.dataroot="{dataroot}"', "train.max_iter=40"]
        self.train_net = folder / "train_net.py"
        self.train_net.write_text(FAKE_TRAIN_NET)
        for name in ("a", "b"):
            self.config(name)
        found = {"mATE": 0.75, "mAVE": 1.0}
        self.metrics(
            a=[{"mAP": 0.1, "NDS": 0.2, **found}, {"mAP": 0.2, "NDS": 0.3, **found}],
            b=[{"mAP": 0.3, "NDS": 0.4, **found}, {"mAP": 0.3, "NDS": 0.5, **found}],
        )

    def config(self, name, changes=""):
        (self.folder / f"{name}.py").write_text(f"{CONFIG}{changes}\n")

    def metrics(self, **metrics):
        (self.folder / "metrics.json").write_text(json.dumps(metrics))

    def behave(self, *how):
        for name in how:
            (self.folder / name).touch()

    def arguments(self, *more, configs=("{0}/a.py", "{0}/b.py"), seeds=(0, 1)):
        configs = [config.format(self.folder) for config in configs]
        line = ["--config-file", *configs, "--seeds", *seeds, "--out", self.out, *more]
        return list(map(str, [*line, *self.common]))

    def run(self, *more, **choices):
        """Runs the tool and returns its output."""
        status = compare.main(self.arguments(*more, **choices))
        printed, error = self.capsys.readouterr()
        assert (status, error) == (0, "")
        return printed

    def fails(self, *more, **choices):
        """Runs the tool, which must fail, and returns its error."""
        assert compare.main(self.arguments(*more, **choices)) == 1
        return self.capsys.readouterr().err

    def calls(self):
        """Returns config, seed, arguments and threads of each training."""
        path = self.folder / "calls.txt"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def report(self):
        return json.loads((self.out / "comparison.json").read_text())


@pytest.fixture
def workplace(tmp_path, synthetic_root, capsys, monkeypatch):
    place = Workplace(tmp_path, synthetic_root, capsys)
    monkeypatch.setattr(runs, "TRAIN_NET", place.train_net)
    return place


def test_every_config_is_trained_with_every_seed(workplace):
    printed = workplace.run("--processes", 2)
    calls = workplace.calls()
    assert sorted(call[:2] for call in calls) == [["a", 0], ["a", 1], ["b", 0], ["b", 1]]
    for name, seed, arguments, threads in calls:
        assert arguments[:3] == ["--config-file", str(workplace.folder / f"{name}.py"), "--resume"]
        assert arguments[3:5] == workplace.common
        assert "train.eval_period=0" in arguments[5:] and f"train.seed={seed}" in arguments[5:]
        assert int(threads) >= 1
    rows = workplace.report()["configs"]
    assert [row["name"] for row in rows] == ["a", "b"]
    found = [[run["metrics"]["mAP"] for run in row["runs"]] for row in rows]
    assert found == [[0.1, 0.2], [0.3, 0.3]]
    spread = rows[0]["metrics"]["mAP"]
    assert spread["mean"] == pytest.approx(0.15)
    assert spread["deviation"] == pytest.approx(statistics.stdev([0.1, 0.2]))
    assert (spread["lowest"], spread["highest"]) == (0.1, 0.2)
    assert rows[0]["parameters"] == rows[1]["parameters"] > 1e6 and rows[0]["frames"] == 2
    assert rows[0]["seconds"]["mean"] == pytest.approx(40 * 1.0)  # 0.5 s and 1.5 s an iteration
    text = (workplace.out / "comparison.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| a |"))
    assert "15.0 ± 7.1 (10.0 to 20.0)" in row and "25.0 ± 7.1 (20.0 to 30.0)" in row
    assert "up to 10.0 mAP and 10.0 NDS" in " ".join(text.split())
    assert text.split("\n\n")[1] in printed
    assert (workplace.out / "comparison.png").read_bytes().startswith(b"\x89PNG")

    # Complete runs are kept; a run without an evaluation is resumed.
    (workplace.out / "b" / "seed1" / "evaluation.json").unlink()
    workplace.run()
    assert [call[:2] for call in workplace.calls()[4:]] == [["b", 1]]
    assert "4 runs, 0 to execute" in workplace.run() and len(workplace.calls()) == 5


@pytest.mark.parametrize(("how", "processes"), [("one at a time", 1), ("together", 2)])
def test_number_of_simultaneous_runs(workplace, how, processes):
    workplace.behave(how)
    workplace.run("--processes", processes, seeds=[0])
    cores = workplace.report()["configs"][0]["runs"][0]["made_with"]["cores"]
    threads = str(max(1, cores // processes))
    assert [call[3] for call in workplace.calls()] == [threads] * 2


def test_a_run_that_fails_does_not_stop_the_others(workplace):
    assert "no run is complete" in workplace.fails("--only-report")
    workplace.behave("fail-a-0", "fail-a-1", "vanish-b-1")
    error = workplace.fails()
    assert len(workplace.calls()) == 4 and not list(workplace.out.glob("comparison.*"))
    assert "a, seed 1 ended with status 1" in error and "and that is the end" in error
    assert str(workplace.out / "a" / "seed1" / "console.txt") in error
    assert "b, seed 1 ended before its evaluation" in error

    printed = workplace.run("--only-report")
    assert len(workplace.calls()) == 4
    assert "Not complete, and left out: a, seed 0; a, seed 1; b, seed 1" in printed
    assert "| a | 1.885 | 2 | - | - | - | - | - |" in printed
    assert workplace.report()["lacking"] == ["a, seed 0", "a, seed 1", "b, seed 1"]
    assert (workplace.out / "comparison.png").is_file()
    for path in (*workplace.folder.glob("fail-*"), *workplace.folder.glob("vanish-*")):
        path.unlink()
    workplace.run()
    assert len(workplace.calls()) == 7


def test_one_seed_has_no_deviation(workplace):
    printed = workplace.run(seeds=[1])
    assert "One seed" in printed and "±" not in printed
    assert "| b | 1.885 | 2 | 30.0 | 50.0 | 0.75 | 1.00 | 1.0 |" in printed


def test_a_metric_missing_for_one_seed_has_no_mean(workplace):
    found = {"mAP": 0.1, "NDS": 0.2, "mATE": 0.5}
    workplace.metrics(a=[found, {**found, "mATE": None}], b=[found, found])
    printed = workplace.run()
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith(("| a", "| b"))]
    assert [row[5] for row in rows] == ["-", "0.50"]
    assert [row[6] for row in rows] == ["-", "-"]  # no run has mAVE


def test_runs_with_other_settings_are_refused(workplace):
    workplace.run(seeds=[0])
    count = len(workplace.calls())
    for more in ((), ("--only-report",)):
        error = workplace.fails(*more, "train.clip_grad.max_norm=1")
        assert len(workplace.calls()) == count
        for name in ("a", "b"):
            folder = workplace.out / name / "seed0"
            assert f"{folder}: train.clip_grad.max_norm was 5.0, is 1.0" in error
        assert "another --out" in error
    workplace.config("b", "optimizer.lr = 1e-3")
    error = workplace.fails()
    assert "optimizer.lr was 0.004, is 0.001" in error
    assert str(workplace.out / "a") not in error
    record = workplace.out / "b" / "seed0" / "run.json"
    record.write_text("{")
    assert f"{record} is damaged" in workplace.fails()
    record.unlink()
    assert "not made by this tool" in workplace.fails() and len(workplace.calls()) == count


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("train.max_iter = 30", "train.max_iter is 1000 in 'a' and 30 in 'b'"),
        ("dataloader.train.total_batch_size = 4", "total_batch_size is 2 in 'a' and 4 in 'b'"),
        ("dataloader.dataroot = 'x'", "dataloader.dataroot is data/synthetic in 'a' and x in 'b'"),
        ("dataloader.version = 'v2'", "dataloader.version is v1.0-synth in 'a' and v2 in 'b'"),
        ("dataloader.train_split = 'x'", "dataloader.train_split is synth_train in 'a' and x"),
        ("dataloader.test_split = 'x'", "dataloader.test_split is synth_val in 'a' and x"),
        ("dataloader.image_size = [64, 176]", "image_size is [144, 480] in 'a' and [64, 176]"),
        ("dataloader.test.dataset.split = 'x'", "test.dataset.split is synth_val in 'a' and x"),
        (
            "dataloader.evaluator.unseen_objects = 'count'",
            "unseen_objects is ignore in 'a' and count in 'b'",
        ),
        ("dataloader.cameras = ['CAM_FRONT']", "cameras is null in 'a' and [\"CAM_FRONT\"]"),
        ("dataloader.evaluator = None", "'b' has no dataloader.evaluator"),
    ],
)
def test_unfair_comparisons_are_refused(workplace, change, error):
    workplace.config("b", change)
    workplace.common = []
    assert error in workplace.fails() and not workplace.out.exists()


def test_differences_of_the_method_are_reported(workplace):
    a = "{0}/a.py"
    workplace.config(
        "b",
        "optimizer.lr = 1e-3\ndataloader.image_aug.scale = [0.5, 1.5]\n"
        "model.teacher_fill = None\ntrain.log_period = 7",
    )
    workplace.metrics(**{name: [{"mAP": 0, "NDS": 0}] for name in ("a", "b", "FSD + PCI")})
    printed = workplace.run(configs=[a, "{0}/b.py", f"FSD + PCI={a}"], seeds=[0])
    report = workplace.report()
    assert [row["name"] for row in report["configs"]] == ["a", "b", "FSD + PCI"]
    assert (workplace.out / "FSD + PCI" / "seed0" / "evaluation.json").is_file()
    assert report["differences"] == {
        "optimizer.lr": {"a": "0.004", "b": "0.001", "FSD + PCI": "0.004"},
        "dataloader.image_aug.scale": {
            "a": "[1.0, 1.0]",
            "b": "[0.5, 1.5]",
            "FSD + PCI": "[1.0, 1.0]",
        },
        "model.teacher_fill": {"a": "paper", "b": "null", "FSD + PCI": "paper"},
    }
    assert "- `optimizer.lr`: 0.004 (a, FSD + PCI); 0.001 (b)\n" in printed
    assert "teacher_fill" not in printed


@pytest.mark.parametrize(
    ("configs", "error"),
    [
        (["{0}/a.py", "{0}/a.py"], "two configs are named 'a'"),
        (["../x={0}/a.py"], "neither FILE.py nor NAME=FILE.py"),
        (["{0}/a.py", "train.max_iter=2"], "Overrides must follow"),
        (["{0}/nothing.py"], "nothing.py"),
    ],
)
def test_invalid_configs(workplace, configs, error):
    assert error in workplace.fails(configs=configs)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--processes", 0], "--processes"),
        (["--seeds", 1, 1], "different whole numbers"),
        (["--seeds", "one"], "whole numbers"),
        (["--doc", "no/such/folder/file.md"], "no folder"),
        (["train.seed=3"], "set by --seeds"),
        (["train.output_dir=x"], "set by --out"),
        (["train.eval_period=3"], "evaluates once"),
        (["train.max_iters=3"], "train.max_iter"),
    ],
)
def test_invalid_arguments(workplace, arguments, error):
    assert error in workplace.fails(*arguments) and not workplace.calls()


def test_missing_data(workplace, tmp_path):
    workplace.common = [f'dataloader.dataroot="{tmp_path / "nothing"}"']
    error = workplace.fails()
    assert not workplace.calls() and "tools/make_synthetic_nuscenes.py" in error
    assert "tools/prepare_nuscenes.py" in error


def test_the_table_replaces_the_text_between_the_markers(workplace, synthetic_root):
    document, new = workplace.folder / "document.md", workplace.folder / "new.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        workplace.run("--doc", document)
        text = document.read_text()
        assert text.startswith(f"before\n{BEGIN}\n| config |") and text.endswith(f"{END}\nafter\n")
        assert "old" not in text and text.count("| a |") == 1
    workplace.run("--doc", new)
    assert new.read_text() == text.removeprefix("before\n").removesuffix("after\n")

    # The report contains no path of the machine.
    for path in (workplace.out / "comparison.json", workplace.out / "comparison.md", document):
        text = path.read_text()
        assert str(workplace.folder) not in text and str(synthetic_root) not in text
    command = workplace.report()["command"]
    assert command.startswith("python tools/compare.py ") and "--seeds 0 1" in command
    assert "train.max_iter=40" in command and "dataloader.dataroot=data" in command


@pytest.mark.parametrize("text", ["prose", "{1} {0}", "{0} {0} {1}", "{0}"])
def test_document_without_the_markers(workplace, text):
    document = workplace.folder / "document.md"
    document.write_text(text.format(BEGIN, END))
    error = workplace.fails("--doc", document)
    assert "comparison: begin" in error and not workplace.calls()


def test_plot_of_every_seed_in_the_given_order():
    rows = [("a", [0.1, 0.2], [0.2, 0.3]), ("b", [0.3, 0.3], [0.4, 0.5]), ("c", [], [])]
    configs = []
    for name, *values in rows:
        metrics = [dict(zip(("mAP", "NDS"), pair)) for pair in zip(*values)]
        spreads = {
            metric: {"mean": statistics.fmean(found), "deviation": 0.1}
            for metric, found in zip(("mAP", "NDS"), values)
            if found
        }
        configs.append(
            {"name": name, "metrics": spreads, "runs": [{"metrics": found} for found in metrics]}
        )
    settings = {"iterations": 40, "batch": 2, "data": "v1.0-synth"}
    figure = plot.draw({"configs": configs, "settings": settings, "seeds": [0, 1]})
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["a", "b", "c"]
    assert left.yaxis_inverted()  # the first is on top
    for axes, expected in ((left, [[10, 20], [30, 30]]), (right, [[20, 30], [40, 50]])):
        dots = [dots.get_offsets() for dots in axes.collections if len(dots.get_offsets()) == 2]
        for y, (found, values) in enumerate(zip(dots, expected, strict=True)):
            assert found.tolist() == [[pytest.approx(value), y] for value in values]


def test_a_running_training_is_not_started_again(workplace):
    console = workplace.out / "b" / "seed0" / "console.txt"
    console.parent.mkdir(parents=True)
    with open(console, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "b, seed 0 is already running" in workplace.fails(seeds=[0])
    assert [call[:2] for call in workplace.calls()] == [["a", 0]]


def test_ctrl_c_ends_the_runs(workplace, monkeypatch, capsys):
    """So does SIGTERM, which the tool converts to KeyboardInterrupt."""
    workplace.behave("forever")
    started = [workplace.folder / f"{name}-0" for name in ("a", "b")]

    def sleep(seconds):
        time.sleep(seconds)
        if all(path.exists() for path in started):
            raise KeyboardInterrupt

    clock = SimpleNamespace(sleep=sleep, monotonic=time.monotonic)
    monkeypatch.setattr(runs, "time", clock)
    assert compare.main(workplace.arguments("--processes", 2)) == 130
    assert "again to continue" in capsys.readouterr().err
    assert all((workplace.out / name / "seed0" / "ended").exists() for name in ("a", "b"))
    assert len(workplace.calls()) == 2


def test_sigterm_raises_keyboard_interrupt():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        interrupt_on_signals()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.slow
def test_a_real_run(synthetic_root, tmp_path, capsys):
    small = ["dataloader.image_size=[64,176]", "train.max_iter=2", "train.checkpointer.period=2"]
    small += ["dataloader.train.num_workers=0", "dataloader.test.num_workers=0"]
    small += [f"dataloader.dataroot={synthetic_root}", "train.report.enabled=false"]
    config = ["--config-file", str(ROOT / "configs/ablations/tiny/baseline.py")]
    assert compare.main([*config, "--out", str(tmp_path), *small]) == 0, capsys.readouterr().err
    [row] = json.loads((tmp_path / "comparison.json").read_text())["configs"]
    evaluation = tmp_path / "baseline" / "seed0" / "evaluation.json"
    expected = json.loads(evaluation.read_text())["nuscenes"]
    assert row["runs"][0]["metrics"] == expected
    assert row["metrics"]["NDS"]["mean"] == expected["NDS"]
