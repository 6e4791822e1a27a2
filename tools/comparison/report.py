"""Report of a comparison, made from the records of its configs."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from fsdbev.data.synthetic import SyntheticOptions
from fsdbev.utils.atomic_write import atomic_write

from .bootstrap import METRICS, interval
from .entries import check_same, differences, without_folder
from .records import read_record, record_path

#: Lines around the generated part of a document.
BEGIN, END = "<!-- comparison: begin -->", "<!-- comparison: end -->"


def summarize(
    folder: Path, names: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Collects the results of configs from their records.

    Args:
        folder: folder of the records.
        names: configs in the order of the table.
        pairs: (config, config that it is compared with).

    Raises:
        ValueError: a record is missing, or the records are not of the same training and data.
    """
    records = {}
    for name in names:
        record = read_record(folder, name)
        if record is None:
            raise ValueError(f"{record_path(folder, name)} is missing: no run of it is complete")
        records[name] = record
    check_same(
        {name: {**record["same"], **record["data"]} for name, record in records.items()},
        "report them separately",
    )
    rows = [_row(record) for record in records.values()]
    differing = differences({name: each["settings"] for name, each in records.items()})
    compared = [
        {
            "name": name,
            "over": over,
            **{
                metric: interval(records[name]["runs"], metric, records[over]["runs"])
                for metric in METRICS
            },
            "classes": _by_class(records[name]["runs"], records[over]["runs"]),
        }
        for name, over in pairs
    ]
    found = [row["intervals"]["mAP"] for row in rows] + [pair["mAP"] for pair in compared]
    return {
        "configs": rows,
        "pairs": compared,
        "has_single_seed": any(each is not None and len(each["seeds"]) == 1 for each in found),
        "settings": _settings(records[names[0]]),
        "differences": {k: v for k, v in differing.items() if not k.startswith("model.")},
        "commands": _commands(list(records.values()), folder),
        "made_with": _made_with(list(records.values())),
    }


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    """Returns schedule and data, which are equal in all configs."""
    found, default = record["same"], SyntheticOptions().as_dict()
    return {
        "iterations": int(found["train.max_iter"]),
        "batch": int(found["dataloader.train.total_batch_size"]),
        "image_size": json.loads(found["dataloader.image_size"]),
        "data": found["dataloader.version"],
        "trained_on": found["dataloader.train_split"],
        "evaluated_on": found["dataloader.test_split"],
        "options": {k: v for k, v in record["data"].items() if v != default.get(k)},
    }


def _row(record: dict[str, Any]) -> dict[str, Any]:
    """Returns the results of one config."""
    runs = record["runs"]
    return {
        "name": record["name"],
        "parameters": record["parameters"],
        "intervals": {metric: interval(runs, metric) for metric in METRICS},
        "metrics": {
            name: _mean([run["metrics"].get(name) for run in runs.values()])
            for name in ("mATE", "mAOE", "mAVE")
        },
        "values": {m: [run["metrics"][m] for run in runs.values()] for m in METRICS},
        "seeds": list(runs),
        "seconds": _mean([run["seconds"] for run in runs.values()]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Returns the mean; None if a value is missing."""
    return None if None in values else float(np.mean(values))


def _by_class(runs: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, list[float]]:
    """Returns the differences of the AP of each class, one for each seed that both configs have."""
    return {
        key.removeprefix("AP_"): [
            run["metrics"][key] - over[seed]["metrics"][key]
            for seed, run in runs.items()
            if seed in over
        ]
        for key in next(iter(runs.values()))["metrics"]
        if key.startswith("AP_")
    }


def _commands(records: Sequence[dict[str, Any]], folder: Path) -> list[str]:
    """Returns the commands that make the records, one for each list of seeds and overrides."""
    place = ["--records", without_folder(str(folder))]
    groups: dict[tuple, list[str]] = {}
    for record in records:
        key = (tuple(record["runs"]), tuple(record["overrides"]))
        groups.setdefault(key, []).append(f"{record['name']}={record['config']}")
    commands = []
    for (seeds, overrides), configs in groups.items():
        lines = [["python", "tools/compare.py", "--config-file", configs[0]]]
        lines += [[config] for config in configs[1:]]
        lines += [["--seeds", *seeds, *place]]
        lines += [list(overrides)] if overrides else []
        commands.append(" \\\n    ".join(map(shlex.join, lines)))
    return commands


def _made_with(records: Sequence[dict[str, Any]]) -> str:
    """Lists the different versions of the runs, and the different divisions of the cores."""
    made_with = [run["made_with"] for record in records for run in record["runs"].values()]
    cores = [
        f"PyTorch {made['torch']}, {made['cores']} CPU cores (runs at a time: {made['processes']}, "
        f"threads of each: {made['threads']})"
        for made in made_with
    ]
    versions = dict.fromkeys(made["fsdbev"] for made in made_with)
    return "; ".join([f"fsdbev {'; '.join(versions)}", *dict.fromkeys(cores)])


def check_document(path: Path) -> None:
    """Checks that a report can be written to a document.

    Raises:
        ValueError: the document exists and has no markers.
        FileNotFoundError: the folder of the document does not exist.
    """
    if path.is_file():
        _split(path)
    elif not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"--doc: no folder {path.absolute().parent}; create it first")


def write_document(content: dict[str, Any], path: Path) -> None:
    """Writes the text between the markers of a document, or to a new document."""
    before, after = _split(path) if path.is_file() else ("", "\n")
    with atomic_write(path) as file:
        file.write(f"{before}{BEGIN}\n{markdown(content)}{END}{after}".encode())


def markdown(content: dict[str, Any]) -> str:
    """Formats the report: tables, settings, versions, and settings that differ between configs."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        interval=_interval, number=_number, paragraph=_paragraph, seeds=_seeds
    )
    return environment.get_template("report.md.jinja").render(content)


def _number(value: float | None, digits: int, scale: float = 1.0) -> str:
    """Formats a scaled number; "-" for None."""
    return "-" if value is None else f"{scale * value:.{digits}f}"


def _interval(found: dict[str, Any] | None, sign: str = "") -> str:
    """Formats mean and 95 % interval in percent; ``sign`` "+" also marks positive numbers."""
    if found is None:
        return "-"
    return f"{100 * found['mean']:{sign}.1f} ± {100 * found['half']:.1f}"


def _seeds(values: Sequence[float]) -> str:
    """Formats the mean of a difference in percent, bold if three or more seeds agree in its sign;
    "-" without a seed."""
    if not values:
        return "-"
    text = f"{100 * np.mean(values):+.1f}"
    return f"**{text}**" if len(values) >= 3 and len(set(np.sign(values))) == 1 else text


def _paragraph(text: str) -> str:
    """Wraps text at 120 columns without breaking words."""
    words = " ".join(text.split())
    return textwrap.fill(words, width=120, break_long_words=False, break_on_hyphens=False)


def _split(path: Path) -> tuple[str, str]:
    """Returns the text before the first marker and after the second one."""
    try:
        before, rest = path.read_text(encoding="utf-8").split(BEGIN)
        _, after = rest.split(END)
    except ValueError:
        raise ValueError(
            f"--doc: {path} needs the lines {BEGIN} and {END}, in this order and once each; the "
            "report is written between them"
        ) from None
    return before, after
