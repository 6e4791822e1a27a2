"""tools/compare.py: refuses unequal settings, runs each training once, reports the results.

All tests except the last one use a fake training script.
"""

import fcntl
import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import compare
import pytest
from command_line import interrupt_on_signals
from comparison import records, runs
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
if (here / "change b").exists():
    (here / "b.py").open("a").write("optimizer.lr = 1e-3")
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
        found = {"mATE": 0.75, "mAOE": 0.5, "mAVE": 1.0}
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
        return self.call(self.arguments(*more, **choices))

    def call(self, arguments):
        status = compare.main(list(map(str, arguments)))
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

    def record(self, name):
        return json.loads((self.out / "records" / f"{name}.json").read_text())


def two_draws(entry, results):
    """Stands for ``evaluate_draws``: two draws, 0.01 below and above the metrics."""
    metrics = json.loads((results.parent / "evaluation.json").read_text())["nuscenes"]
    return {name: [metrics[name] - 0.01, metrics[name] + 0.01] for name in ("mAP", "NDS")}


@pytest.fixture
def workplace(tmp_path, synthetic_root, capsys, monkeypatch):
    place = Workplace(tmp_path, synthetic_root, capsys)
    monkeypatch.setattr(runs, "TRAIN_NET", place.train_net)
    monkeypatch.setattr(records, "evaluate_draws", two_draws)
    return place


def test_every_config_is_trained_with_every_seed(workplace):
    printed = workplace.run("--processes", 2, "--pairs", "b:a")
    calls = workplace.calls()
    assert sorted(call[:2] for call in calls) == [["a", 0], ["a", 1], ["b", 0], ["b", 1]]
    for name, seed, arguments, threads in calls:
        assert arguments[:3] == ["--config-file", str(workplace.folder / f"{name}.py"), "--resume"]
        assert arguments[3:5] == workplace.common
        assert "train.eval_period=0" in arguments[5:] and f"train.seed={seed}" in arguments[5:]
        assert int(threads) >= 1
    assert "| b | a | +15.0 ± 63.5 |" in printed  # t of one degree of freedom is 12.7
    a, b = workplace.record("a"), workplace.record("b")
    assert [run["metrics"]["mAP"] for run in a["runs"].values()] == [0.1, 0.2]
    assert a["runs"]["1"]["draws"]["mAP"] == "0.1900 0.2100"
    assert a["parameters"] == b["parameters"] > 1e6
    assert a["runs"]["0"]["seconds"] == pytest.approx(40 * 0.5)
    assert a["data"]["scenes_val"] == 1 and a["settings"]["train.max_iter"] == "40"
    row = next(line for line in printed.splitlines() if line.startswith("| a |"))
    assert "| a | 2 | 15.0 ± 63.6 | 25.0 ± 63.6 | 0.75 | 0.50 | 1.00 |" in row
    assert row.endswith("| 1.885 | 0.7 |")  # minutes: 40 times the mean of 0.5 s and 1.5 s

    # Recorded runs are kept; another is resumed.
    del b["runs"]["1"]
    (workplace.out / "records" / "b.json").write_text(json.dumps(b))
    workplace.run()
    assert [call[:2] for call in workplace.calls()[4:]] == [["b", 1]]
    assert "4 runs, 0 to execute" in workplace.run() and len(workplace.calls()) == 5


def test_records_are_enough_to_continue_and_to_report(workplace, tmp_path):
    workplace.run()
    elsewhere = tmp_path / "clone"
    (workplace.out / "records").rename(elsewhere)
    for run in ("a", "b"):
        (workplace.out / run).rename(tmp_path / f"old {run}")
    assert "4 runs, 0 to execute" in workplace.run("--records", elsewhere)
    picture = tmp_path / "picture.png"
    report = ["--report", "b", "a", "--pairs", "b:a", "--records", elsewhere, "--plot", picture]
    printed = workplace.call(report)
    assert printed.index("| b |") < printed.index("| a |")
    # Differences of equal seeds on equal draws: 0.2 and 0.1 of mAP, twice 0.2 of NDS.
    assert "| b | a | +15.0 ± 63.5 | +20.0 ± 0.0 |" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "python tools/compare.py --config-file b=b.py" in printed
    for arguments, error in (
        (["--report", "c", "--records", elsewhere], "c.json is missing"),
        (["--report", "a", "--records", elsewhere, "--pairs", "a:b"], "'a:b' is not NAME:NAME of"),
        (["--report", "a", "--records", elsewhere, "--pairs", "ab"], "'ab' is not NAME:NAME"),
        (["--report", "a", "--records", elsewhere, "--pairs", "a:a"], "'a:a' is not NAME:NAME"),
        (["--report", "a", "--records", elsewhere, "train.max_iter=2"], "remove train.max_iter=2"),
    ):
        assert compare.main(list(map(str, arguments))) == 1
        assert error in workplace.capsys.readouterr().err
    other = workplace.out.parent / "clone" / "a.json"
    record = json.loads(other.read_text())
    record["data"]["world"] = "nuscenes"
    other.write_text(json.dumps(record))
    assert compare.main(list(map(str, report))) == 1
    assert "world is street in 'b' and nuscenes in 'a'" in workplace.capsys.readouterr().err


@pytest.mark.parametrize(("how", "processes"), [("one at a time", 1), ("together", 2)])
def test_number_of_simultaneous_runs(workplace, how, processes):
    workplace.behave(how)
    workplace.run("--processes", processes, seeds=[0])
    cores = workplace.record("a")["runs"]["0"]["made_with"]["cores"]
    threads = str(max(1, cores // processes))
    assert [call[3] for call in workplace.calls()] == [threads] * 2


def test_a_run_that_fails_does_not_stop_the_others(workplace):
    workplace.behave("fail-a-0", "fail-a-1", "vanish-b-1")
    error = workplace.fails()
    assert len(workplace.calls()) == 4
    assert "a, seed 1 ended with status 1" in error and "and that is the end" in error
    assert str(workplace.out / "a" / "seed1" / "console.txt") in error
    assert "b, seed 1 ended before its evaluation" in error
    assert list(workplace.record("b")["runs"]) == ["0"]
    for path in (*workplace.folder.glob("fail-*"), *workplace.folder.glob("vanish-*")):
        path.unlink()
    workplace.run()
    assert len(workplace.calls()) == 7


def test_one_seed(workplace):
    printed = workplace.run(seeds=[1])
    assert "| b | 1 | 30.0 ± 2.0 | 50.0 ± 2.0 | 0.75 | 0.50 | 1.00 |" in printed
    assert "with one seed, for the scenes alone" in printed.replace("\n", " ")


def test_a_pair_with_a_single_common_seed(workplace):
    workplace.run("--pairs", "b:a")
    path = workplace.out / "records" / "b.json"
    record = json.loads(path.read_text())
    record["runs"]["2"] = record["runs"].pop("1")
    path.write_text(json.dumps(record))
    report = ["--report", "a", "b", "--records", path.parent]
    assert "with one seed" not in workplace.call(report)
    assert "with one seed" in workplace.call([*report, "--pairs", "b:a"])


def test_a_metric_missing_for_one_seed_has_no_mean(workplace):
    found = {"mAP": 0.1, "NDS": 0.2, "mATE": 0.5}
    workplace.metrics(a=[found, {**found, "mATE": None}], b=[found, found])
    printed = workplace.run()
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith(("| a", "| b"))]
    assert [row[4] for row in rows] == ["-", "0.50"]
    assert [row[6] for row in rows] == ["-", "-"]  # no run has mAVE


def test_differences_by_class(workplace):
    found = {"mAP": 0.1, "NDS": 0.2, "AP_car": 0.1, "AP_bus": 0.1}
    b = [{**found, "AP_car": car, "AP_bus": bus} for car, bus in ((0.2, 0.2), (0.3, 0), (0.4, 0.3))]
    workplace.metrics(a=[found] * 3, b=b)
    printed = workplace.run("--pairs", "b:a", "a:b", seeds=(0, 1, 2))
    assert "| difference of AP | b over a | a over b |\n|---|---|---|\n" in printed
    assert "| car | **+20.0** | **-20.0** |\n| bus | +6.7 | -6.7 |\n" in printed


def test_runs_with_other_settings_are_refused(workplace):
    workplace.behave("vanish-a-0")
    assert "before its evaluation" in workplace.fails(seeds=[0])  # a is started, b is recorded
    count = len(workplace.calls())
    error = workplace.fails("train.clip_grad.max_norm=1")
    for place in (workplace.out / "a" / "seed0", workplace.out / "records" / "b.json"):
        assert f"{place}: train.clip_grad.max_norm was 5.0, is 1.0" in error
    assert "other --records" in error
    # A setting without effect on the results may change.
    workplace.behave("fail-a-0")
    assert "and that is the end" in workplace.fails("train.log_period=7", seeds=[0])
    count += 1
    workplace.config("b", "optimizer.lr = 1e-3")
    error = workplace.fails()
    assert "optimizer.lr was 0.004, is 0.001" in error
    assert str(workplace.out / "a") not in error
    record = workplace.out / "records" / "b.json"
    record.write_text("{")
    assert f"{record} is damaged" in workplace.fails()
    start = workplace.out / "a" / "seed0" / "run.json"
    start.write_text("{")
    record.unlink()
    assert f"{start} is damaged" in workplace.fails()
    start.unlink()
    (start.parent / "metrics.json").touch()
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
        "model.teacher_fill = None\ntrain.log_period = 7\n"
        "model.classes.groups[0].iou_threshold = 0.5",
    )
    workplace.metrics(**{name: [{"mAP": 0, "NDS": 0}] for name in ("a", "b", "FSD + PCI")})
    printed = workplace.run(configs=[a, "{0}/b.py", f"FSD + PCI={a}"], seeds=[0])
    assert (workplace.out / "FSD + PCI" / "seed0" / "evaluation.json").is_file()
    scale = "- `dataloader.image_aug.scale`: [1.0, 1.0] (a, FSD + PCI); [0.5, 1.5] (b)\n"
    assert scale in printed and "log_period" not in printed
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
        (["--seeds", "train.log_period=3"], "whole numbers"),
        (["--pairs", "a:c"], "'a:c' is not NAME:NAME of a, b"),
        (["--doc", "no/such/folder/file.md"], "--doc: no folder"),
        (["--plot", "no/such/folder/file.png"], "--plot: no folder"),
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

    # Report and records contain no path of the machine.
    for path in (*(workplace.out / "records").iterdir(), document):
        text = path.read_text()
        assert str(workplace.folder) not in text and str(synthetic_root) not in text
    assert "python tools/compare.py " in text and "--seeds 0 1" in text
    assert "train.max_iter=40" in text and "dataloader.dataroot=data" in text


@pytest.mark.parametrize("text", ["prose", "{1} {0}", "{0} {0} {1}", "{0}"])
def test_document_without_the_markers(workplace, text):
    document = workplace.folder / "document.md"
    document.write_text(text.format(BEGIN, END))
    error = workplace.fails("--doc", document)
    assert "comparison: begin" in error and not workplace.calls()


def test_a_running_training_is_not_started_again(workplace):
    console = workplace.out / "b" / "seed0" / "console.txt"
    console.parent.mkdir(parents=True)
    with open(console, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "b, seed 0: already running" in workplace.fails(seeds=[0])
    assert [call[:2] for call in workplace.calls()] == [["a", 0]]


def test_a_config_that_changes_during_a_comparison(workplace):
    workplace.behave("change b")
    error = workplace.fails(seeds=[0])
    assert "b, seed 0" in error and "b.py has changed" in error and "optimizer.lr" in error
    assert [call[0] for call in workplace.calls()] == ["a"]


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
    evaluation = tmp_path / "baseline" / "seed0" / "evaluation.json"
    expected = json.loads(evaluation.read_text())["nuscenes"]
    run = json.loads((tmp_path / "records" / "baseline.json").read_text())["runs"]["0"]
    assert run["metrics"]["NDS"] == expected["NDS"]
    # The only validation scene is drawn each time.
    assert set(run["draws"]["NDS"].split()) == {f"{expected['NDS']:.4f}"}
