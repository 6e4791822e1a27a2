"""The files that a graph is exported to: how they are written, and how they are run.

Both run where this package is not installed: what an AOTInductor package needs of it is the library
of its operators, which is copied beside it; an ONNX file needs an ONNX runtime.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fsdbev.layers import EXTENSION_BUILT
from fsdbev.layers._extension import BUILD_COMMAND

from .graph import DeploymentGraph
from .standard_splat import splat_cells_in_standard_operators

Tensors = Mapping[str, Tensor]

#: Copy of the library of our operators, for packages whose graphs have them as nodes.
OPERATORS = "fsdbev_operators.so"


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: on the command line.
        file_name: of the exported graph.
        standard: it runs without our operators, on the CPU or elsewhere: the graph takes cells,
            and leaves NMS to its user.
        packages: what must be installed to write and check it.
        write: graph, inputs, path -> the file.
        run: path, inputs -> outputs by name.
    """

    name: str
    file_name: str
    standard: bool
    packages: tuple[str, ...]
    write: Callable[[DeploymentGraph, Tensors, Path], None]
    run: Callable[[Path, Tensors], dict[str, Tensor]]

    def check(self) -> None:
        """ValueError unless it can be written here."""
        if not EXTENSION_BUILT:
            raise ValueError(
                "a model is exported with the compiled operators, and they are not built; run in "
                f"the project's root: {BUILD_COMMAND}"
            )
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise ValueError(
                f"format {self.name} needs {', '.join(missing)}: pip install -c constraints.txt "
                f"{' '.join(self.packages)}"
            )

    def add_dependencies(self, folder: Path) -> None:
        """Copies the library of our operators beside a file that needs it."""
        if not self.standard:
            library = importlib.import_module("fsdbev.layers._C").__file__
            shutil.copyfile(library, folder / OPERATORS)


def trace(graph: DeploymentGraph, inputs: Tensors) -> torch.export.ExportedProgram:
    """The graph with our operators as single nodes."""
    with torch.no_grad():
        return torch.export.export(graph, (), kwargs=dict(inputs), strict=False)


def write_aoti(graph: DeploymentGraph, inputs: Tensors, path: Path) -> None:
    """Compiles the graph for its device, or for this machine's kind of CPU."""
    torch._inductor.aoti_compile_and_package(trace(graph, inputs), package_path=str(path))


def run_aoti(path: Path, inputs: Tensors) -> dict[str, Tensor]:
    return torch._inductor.aoti_load_package(str(path))(**inputs)


def write_onnx(graph: DeploymentGraph, inputs: Tensors, path: Path) -> None:
    """Writes and checks the graph in ONNX's standard operators, of the version that the installed
    exporter writes."""
    import onnx

    table = {torch.ops.fsdbev.splat_cells.default: splat_cells_in_standard_operators}
    program = trace(graph, inputs).run_decompositions(table)
    torch.onnx.export(
        program,
        f=str(path),
        input_names=list(inputs),
        output_names=list(graph.options.output_names),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    onnx.checker.check_model(str(path), full_check=True)


def run_onnx(path: Path, inputs: Tensors) -> dict[str, Tensor]:
    """On the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    arrays: list[np.ndarray] = session.run(names, {n: x.cpu().numpy() for n, x in inputs.items()})
    return dict(zip(names, map(torch.from_numpy, arrays), strict=True))


FORMATS = {
    format.name: format
    for format in (
        Format("aoti", "model.pt2", False, (), write_aoti, run_aoti),
        Format(
            "onnx", "model.onnx", True, ("onnx", "onnxscript", "onnxruntime"), write_onnx, run_onnx
        ),
    )
}
