"""Export of a model: writes each file, runs it, and keeps it if it agrees with the model."""

from __future__ import annotations

import copy
import glob
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsdbev.modeling import FSDBEV
from fsdbev.modeling.center_head.decode import Candidates
from fsdbev.utils.atomic_write import atomic_folder, unfinished_paths

from .comparison import TOLERANCE, Differences, compare_detections, largest_difference
from .formats import Format
from .graph import DeploymentGraph, GraphOptions
from .inputs import graph_inputs
from .metadata import describe_graph, describe_model, versions

logger = logging.getLogger(__name__)

METADATA = "metadata.json"
#: Lower than any score, so that all detections of graph and model are compared.
_LOWEST_SCORE = 0.0


@dataclass(frozen=True)
class ExportedFile:
    """Exported file whose outputs agree with the model.

    Attributes:
        name: file name in the output folder.
        num_bytes: size of the file.
        seconds: time that writing the file took.
        differences: differences between the outputs of the file and of the model.
    """

    name: str
    num_bytes: int
    seconds: float
    differences: Differences


def export_model(
    model: FSDBEV,
    samples: Sequence[dict],
    output: str | os.PathLike,
    *,
    formats: Sequence[Format],
    stream: bool = False,
    cells: bool = False,
    tolerance: float = TOLERANCE,
    about: Mapping[str, Any] | None = None,
) -> list[ExportedFile]:
    """Exports a model to a new folder with one file for each format and ``metadata.json``.

    Args:
        model: the model on the device where the exported graph will run; it is switched to
            evaluation mode. Files of standard operators are made on the CPU.
        samples: sample dicts of the model, as many as one call of the exported graph takes. The
            detections of the graphs in these samples are compared with those of the model.
        output: folder that does not exist or is empty. It appears when all files are complete and
            agree with the model.
        formats: formats from ``FORMATS``.
        stream, cells: see ``GraphOptions``; files of standard operators always take cells.
        tolerance: see :mod:`.comparison`.
        about: further metadata.

    Returns:
        The exported files in the order of the formats.

    Raises:
        ValueError: a format cannot be written in this environment, or its outputs differ from
            those of the model by more than the tolerance.
        FileExistsError: the folder is not empty.
    """
    model.eval()
    for format in formats:
        format.check()
    output = Path(output).absolute()
    _check_output(output)
    with atomic_folder(output) as folder:
        results, graphs = [], {}
        expected = _find(model, samples)
        for format in formats:
            options = GraphOptions(
                stream=stream, cells=cells or format.standard, nms=not format.standard
            )
            result, graphs[format.file_name] = _export(
                model, samples, expected, folder, format, options, tolerance
            )
            results.append(result)
        metadata = {
            "about": dict(about or {}),
            "versions": versions(),
            "model": describe_model(model),
            "files": graphs,
        }
        (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    return results


def _export(
    model: FSDBEV,
    samples: Sequence[dict],
    expected: Sequence[Candidates],
    folder: Path,
    format: Format,
    options: GraphOptions,
    tolerance: float,
) -> tuple[ExportedFile, dict[str, Any]]:
    """Writes and checks one file; returns the file and its metadata."""
    # A copy, because the caller's model stays on its device.
    if format.standard and model.device.type != "cpu":
        model = copy.deepcopy(model).cpu()
    num_cameras = torch.as_tensor(samples[0]["images"]).shape[1]
    graph = DeploymentGraph(
        model, batch_size=len(samples), num_cameras=num_cameras, options=options
    )
    inputs = graph_inputs(model, samples, options, score_threshold=_LOWEST_SCORE)
    path = folder / format.file_name
    start = time.perf_counter()
    format.write(graph, inputs, path)
    seconds = time.perf_counter() - start
    logger.info("wrote %s in %.0f s", path.name, seconds)
    format.add_dependencies(folder)
    outputs = format.run(path, inputs)
    differences = _compare(graph, inputs, outputs, expected, tolerance)
    try:
        differences.check(tolerance)
    except ValueError as error:
        raise ValueError(f"{path.name} is not kept: {error}") from error
    description = {
        "format": format.name,
        "device": str(model.device),
        **describe_graph(options, inputs, outputs),
        "compared_with_the_model": differences.as_dict(tolerance),
    }
    return ExportedFile(path.name, path.stat().st_size, seconds, differences), description


def _compare(
    graph: DeploymentGraph,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    expected: Sequence[Candidates],
    tolerance: float,
) -> Differences:
    """Compares the outputs of a file with the model's detections and, for a stream, features."""
    # The model returns detections after NMS, so candidates pass through NMS before the comparison.
    outputs_of_nms = outputs if graph.options.nms else graph.suppress(outputs)
    counts = outputs_of_nms["count"].tolist()
    detections = [
        Candidates(*(outputs_of_nms[key][b, :n].cpu() for key in ("boxes", "scores", "classes")))
        for b, n in enumerate(counts)
    ]
    features = 0.0
    if graph.options.stream:
        with torch.no_grad():
            image = graph.model.extract_image_features(inputs["images"].flatten(0, 1))
        features = max(
            largest_difference(outputs["features"].flatten(0, 1), image.features),
            largest_difference(outputs["foreground"].flatten(0, 1), image.foreground),
        )
    return compare_detections(detections, expected, tolerance, features=features)


@torch.no_grad()
def _find(model: FSDBEV, samples: Sequence[dict]) -> list[Candidates]:
    """Detects boxes of any score with the model's own forward pass."""
    decoder = model.head.decoder
    own_threshold = decoder.score_threshold
    decoder.score_threshold = _LOWEST_SCORE
    try:
        results = [result["instances"] for result in model(list(samples))]
    finally:
        decoder.score_threshold = own_threshold
    return [
        Candidates(r.pred_boxes_3d.tensor.cpu(), r.scores.cpu(), r.pred_classes.cpu())
        for r in results
    ]


def _check_output(output: Path) -> None:
    """Checks that the folder is missing or empty; removes unfinished folders of killed runs."""
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise FileExistsError(f"{output} already exists: remove it, or choose another folder")
    # Escaped, since the argument is a glob pattern and a folder's name may contain wildcards.
    for folder in unfinished_paths(output.parent, glob.escape(output.name)):
        shutil.rmtree(folder)
        logger.info("removed %s, an unfinished folder of a killed run", folder)
