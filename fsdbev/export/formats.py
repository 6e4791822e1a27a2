"""File formats of exported graphs: AOTInductor packages and ONNX.

Files of both formats run without this package. An AOTInductor package needs the library of the
custom operators, which is copied into the same folder; an ONNX file needs an ONNX runtime.
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

#: File name of the copied operator library, for packages whose graphs contain custom operators.
OPERATORS = "fsdbev_operators.so"


@dataclass(frozen=True)
class Format:
    """File format of an exported graph.

    Attributes:
        name: name on the command line.
        file_name: name of the exported file.
        standard: whether the graph consists of standard operators only. Such a graph takes BEV
            cells and returns candidates before NMS.
        packages: Python packages that writing and checking the file needs.
        write: writes a graph with example inputs to a path.
        run: runs the file at a path with inputs and returns outputs by name.
    """

    name: str
    file_name: str
    standard: bool
    packages: tuple[str, ...]
    write: Callable[[DeploymentGraph, Tensors, Path], None]
    run: Callable[[Path, Tensors], dict[str, Tensor]]

    def check(self) -> None:
        """Checks that the format can be written in this environment.

        Raises:
            ValueError: the compiled operators or a package are missing.
        """
        # Graphs call the operators. The references cannot be traced: their loops depend on values.
        if not EXTENSION_BUILT:
            raise ValueError(
                "export needs the compiled operators, which are not built; run in the project's "
                f"root: {BUILD_COMMAND}"
            )
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise ValueError(
                f"format {self.name} needs {', '.join(missing)}: pip install -c constraints.txt "
                f"{' '.join(self.packages)}"
            )

    def add_dependencies(self, folder: Path) -> None:
        """Copies the operator library into the folder if the format needs it."""
        if not self.standard:
            library = importlib.import_module("fsdbev.layers._C").__file__
            shutil.copyfile(library, folder / OPERATORS)


def trace(graph: DeploymentGraph, inputs: Tensors) -> torch.export.ExportedProgram:
    """Exports the graph with each custom operator as a single node."""
    # Not strict: the graph is traced by running its Python code, without TorchDynamo.
    with torch.no_grad():
        return torch.export.export(graph, (), kwargs=dict(inputs), strict=False)


def write_aoti(graph: DeploymentGraph, inputs: Tensors, path: Path) -> None:
    """Compiles the graph for its device; on the CPU, for the instruction set of this machine."""
    torch._inductor.aoti_compile_and_package(trace(graph, inputs), package_path=str(path))


def run_aoti(path: Path, inputs: Tensors) -> dict[str, Tensor]:
    """Runs a compiled package on the device that it was compiled for."""
    return torch._inductor.aoti_load_package(str(path))(**inputs)


def write_onnx(graph: DeploymentGraph, inputs: Tensors, path: Path) -> None:
    """Writes the graph in standard ONNX operators and validates the file.

    The opset version is the default of the installed exporter.
    """
    # onnx is an optional dependency.
    import onnx

    # ONNX has no counterpart of the custom operator.
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
    """Runs an ONNX file on the CPU."""
    # onnxruntime is an optional dependency.
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    arrays: list[np.ndarray] = session.run(names, {n: x.cpu().numpy() for n, x in inputs.items()})
    return dict(zip(names, map(torch.from_numpy, arrays), strict=True))


#: All formats by name.
FORMATS = {
    format.name: format
    for format in (
        Format("aoti", "model.pt2", False, (), write_aoti, run_aoti),
        Format(
            "onnx", "model.onnx", True, ("onnx", "onnxscript", "onnxruntime"), write_onnx, run_onnx
        ),
    )
}
