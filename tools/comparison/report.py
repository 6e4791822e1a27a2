"""A comparison as Markdown, and the part of a document that has it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fsdbev.utils.atomic_write import atomic_write

#: What a document has around the part that is written here.
BEGIN, END = "<!-- comparison: begin -->", "<!-- comparison: end -->"

_HEADER = (
    "config",
    "parameters (M)",
    "frames",
    "mAP",
    "NDS",
    "mATE (m)",
    "mAVE (m/s)",
    "training (min)",
)


def write_report(content: dict[str, Any], path: Path, *, picture: str) -> None:
    """Title, text and picture, a file for itself."""
    text = (
        f"# Comparison\n\n{markdown(content)}\n![mAP and NDS of each config and seed]({picture})\n"
    )
    with atomic_write(path) as file:
        file.write(text.encode())


def check_document(path: Path) -> None:
    """Raises ValueError if the file is there without the markers, FileNotFoundError if there is no
    folder for it."""
    if path.is_file():
        _split(path)
    elif not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"--doc: there is no folder {path.absolute().parent}")


def write_document(content: dict[str, Any], path: Path) -> None:
    """Puts the text between the markers of a document; a new one is begun where there is none."""
    before, after = _split(path) if path.is_file() else ("", "\n")
    with atomic_write(path) as file:
        file.write(f"{before}{BEGIN}\n{markdown(content)}{END}{after}".encode())


def markdown(content: dict[str, Any]) -> str:
    """Table, what it was made by, and what is not the same."""
    parts = [table([_HEADER, *map(_line, content["configs"])]), _explanation(content)]
    if content["lacking"]:
        parts.append(f"**Not done, and left out: {'; '.join(content['lacking'])}.**")
    parts.append(f"```bash\n{content['command']}\n```")
    if lines := _differences(content):
        parts.append("\n".join(["Settings beside those of the model that differ:\n", *lines]))
    return "\n\n".join(parts) + "\n"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its header."""
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _line(row: dict[str, Any]) -> list[str]:
    metrics = row["metrics"]
    return [
        row["name"],
        f"{row['parameters'] / 1e6:.3f}",
        str(row["frames"]),
        _with_spread(metrics.get("mAP")),
        _with_spread(metrics.get("NDS")),
        _mean(metrics.get("mATE")),
        _mean(metrics.get("mAVE")),
        _mean(row["seconds"], digits=1, scale=1 / 60),
    ]


def _mean(spread: dict | None, *, digits: int = 2, scale: float = 1) -> str:
    return "-" if spread is None else f"{scale * spread['mean']:.{digits}f}"


def _with_spread(spread: dict | None) -> str:
    if spread is None or spread["deviation"] is None:
        return _mean(spread, digits=1, scale=100)
    mean, deviation, lowest, highest = (100 * value for value in spread.values())
    return f"{mean:.1f} ± {deviation:.1f} ({lowest:.1f} to {highest:.1f})"


def _explanation(content: dict[str, Any]) -> str:
    settings, seeds = content["settings"], content["seeds"]
    size = "x".join(map(str, settings["image_size"]))
    with_seeds = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    made = (
        f"{settings['iterations']} iterations of {settings['batch']} samples on "
        f"{settings['trained_on']} of {settings['data']}, images of {size}, evaluated on "
        f"{settings['evaluated_on']}; {with_seeds}. {_made_with(content)} "
        "mAP and NDS are in percent. Minutes are those of the training steps, with whatever else "
        "ran at the time: an indication."
    )
    return f"{_filled(made)}\n\n{_filled(_about_spread(content))}"


def _about_spread(content: dict[str, Any]) -> str:
    if len(content["seeds"]) == 1:
        return (
            "One seed: how far runs of one config lie apart is not known, so that small "
            "differences between configs say nothing."
        )
    apart = {metric: 100 * _widest(content, metric) for metric in ("mAP", "NDS")}
    return (
        "Mean ± sample standard deviation over the seeds (lowest to highest). Runs of one config "
        f"that differ in their seed alone lie up to {apart['mAP']:.1f} mAP and {apart['NDS']:.1f} "
        "NDS apart: differences between configs that are not clearly larger may be chance."
    )


def _filled(text: str) -> str:
    return textwrap.fill(text, width=120, break_long_words=False, break_on_hyphens=False)


def _made_with(content: dict[str, Any]) -> str:
    runs = [run["made_with"] for row in content["configs"] for run in row["runs"]]
    texts = [
        f"fsdbev {m['fsdbev']}, PyTorch {m['torch']}, {m['cores']} CPU cores (runs at a time: "
        f"{m['processes']}, threads of each: {m['threads']})"
        for m in runs
    ]
    return f"Made with {'; and '.join(dict.fromkeys(texts))}."


def _widest(content: dict[str, Any], metric: str) -> float:
    spreads = [row["metrics"][metric] for row in content["configs"] if row["runs"]]
    return max(spread["highest"] - spread["lowest"] for spread in spreads)


def _differences(content: dict[str, Any]) -> list[str]:
    """A line a setting: its values, and which configs have each."""
    lines = []
    for key, values in content["differences"].items():
        names: dict[str, list[str]] = {}
        for row in content["configs"]:
            names.setdefault(values.get(row["name"], "absent"), []).append(row["name"])
        texts = [f"{value} ({', '.join(having)})" for value, having in names.items()]
        if not key.startswith("model."):
            lines.append(f"- `{key}`: {'; '.join(texts)}")
    return lines


def _split(path: Path) -> tuple[str, str]:
    """What stands before the first marker and behind the second one."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(
            f"--doc: {path} needs the lines {BEGIN} and {END}, in this order and once each; the "
            "report goes between them"
        )
    return before, after
