"""Imports between packages follow the architecture, which is defined by ``ALLOWED``."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

#: Modules that read the frame index.
INDEX_READING = {"data.index.frame_index", "data.index.records"}
#: Modules that compute training targets, which visualization draws.
TARGET_MAKING = {"data.dataset", "data.mapper", "data.labels", "data.transforms"}

#: Package that every package may import, and the imports of its modules.
COMMON = "utils"
COMMON_ALLOWED = {"utils.collect_env": {"layers", "d2"}, "utils.flops": {"layers", "data.fake"}}
#: Package of ``fsdbev`` -> packages or modules of fsdbev that it may import in addition.
ALLOWED = {
    COMMON: set(),
    "structures": set(),
    "layers": set(),
    "d2": set(),
    "modeling": {"layers", "structures", "d2"},
    "config": {"modeling.registry", "d2"},
    "data": {"structures", "d2", "layers.heatmaps", "layers.resample"},
    # An evaluator reads the same samples, cameras and objects as the loader, from its data set.
    "evaluation": {"structures", "d2", "data.dataset", "data.nuscenes.tables"} | INDEX_READING,
    "visualization": {"structures", "d2"} | INDEX_READING | TARGET_MAKING,
    "report": {"structures", "d2", "config", "data", "evaluation", "visualization"},
    "checkpoint": {"structures", "d2"},
    "inference": {
        "structures",
        "d2",
        "config",
        "modeling",
        "data",
        "checkpoint",
        "visualization",
    },
    "export": {"structures", "layers", "modeling"},
    "engine": {
        "structures",
        "d2",
        "config",
        "modeling",
        "data",
        "evaluation",
        "visualization",
        "report",
        "checkpoint",
        "inference",
    },
}

#: Top-level packages that no file of fsdbev imports, and the only package that imports Detectron2.
NEVER = {"projects", "tools", "tests", "configs"}
DETECTRON2_PACKAGE = "d2"


def imported_modules(source, module, is_package=False):
    """Returns the absolute dotted names that the source of ``module`` imports.

    ``from a import b`` is returned as ``a.b``, because b may be a module.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            found |= {".".join([*base, alias.name]) for alias in node.names}
        elif isinstance(node, ast.Call) and _called_name(node) in ("import_module", "__import__"):
            argument = node.args[0] if node.args else None
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                found.add(argument.value)
    return found


def _called_name(call):
    return getattr(call.func, "attr", getattr(call.func, "id", None))


def violations(source, module, is_package=False):
    """Returns the imports of the module that the architecture does not allow, as sentences."""
    parts = module.split(".")
    package = parts[1] if len(parts) > 2 or (is_package and len(parts) > 1) else None
    bad = []
    for name in sorted(imported_modules(source, module, is_package)):
        target = name.split(".")
        if target[0] in NEVER:
            bad.append(f"{module} imports {name}: nothing in fsdbev imports {target[0]}/")
        elif target[0] == "detectron2" and package != DETECTRON2_PACKAGE:
            bad.append(f"{module} imports {name}: only fsdbev.d2 imports Detectron2")
        elif target[0] == "fsdbev" and package is not None:
            allowed = COMMON_ALLOWED.get(".".join(parts[1:]), ALLOWED[package])
            if not _may_import(package, target[1:], allowed):
                bad.append(f"{module} imports {name}: {package} may import {sorted(allowed)}")
    return bad


def _may_import(package, target, allowed):
    """Returns whether ``package`` may import the module of fsdbev with the parts ``target``."""
    if target[:1] in ([package], [COMMON], ["__version__"]):
        return True
    return any(target[: len(edge.split("."))] == edge.split(".") for edge in allowed)


def modules_of(folder):
    """Yields (path, dotted name, whether it is a package) of every Python file in fsdbev/``folder``
    and below; without a folder, of the files directly in fsdbev/."""
    files = (ROOT / "fsdbev" / folder).glob("**/*.py" if folder else "*.py")
    for path in sorted(files):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield path, ".".join(parts[:-1] if is_package else parts), is_package


def test_every_package_is_in_the_architecture():
    packages = {p.parent.name for p in (ROOT / "fsdbev").glob("*/*.py")}
    assert packages <= set(ALLOWED), f"add these to ALLOWED: {sorted(packages - set(ALLOWED))}"
    assert len(list(modules_of("structures"))) > 3 and len(list(modules_of("modeling"))) > 3


@pytest.mark.parametrize("package", [*ALLOWED, ""])
def test_imports_follow_the_architecture(package):
    """The empty name is that of the files directly in fsdbev/, which may import every package."""
    bad = []
    for path, module, is_package in modules_of(package):
        bad += violations(path.read_text(encoding="utf-8"), module, is_package)
    assert not bad, "\n".join(bad)


def test_the_architecture_has_no_cycle():
    order = {}

    def depth(package, above=()):
        assert package not in above, f"cycle: {' -> '.join([*above, package])}"
        if package not in order:
            below = {edge.split(".")[0] for edge in ALLOWED[package]}
            order[package] = 1 + max((depth(b, (*above, package)) for b in below), default=0)
        return order[package]

    assert max(ALLOWED, key=depth) == "engine"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fsdbev.structures.grid", "from fsdbev.layers import lift_splat"),
        ("fsdbev.layers.nms", "from ..structures import Boxes3D"),
        ("fsdbev.layers.nms", "from .. import structures"),
        ("fsdbev.modeling.center_head.head", "from ...data.index import FrameIndex"),
        ("fsdbev.modeling.msfe", "def f():\n    from fsdbev.evaluation import report"),
        ("fsdbev.modeling.msfe", "import importlib\nimportlib.import_module('fsdbev.data')"),
        ("fsdbev.data.mapper", "from fsdbev.modeling import msfe"),
        ("fsdbev.data.mapper", "from fsdbev.layers.lift_splat import lift_splat"),
        ("fsdbev.evaluation.nuscenes_evaluator", "from fsdbev.data.mapper import MultiViewMapper"),
        ("fsdbev.d2.engine", "from fsdbev.engine import trainer"),
        ("fsdbev.engine.trainer", "import tools.train_net"),
        ("fsdbev.engine.trainer", "from projects.other import model"),
        ("fsdbev.engine.trainer", "from detectron2.engine import DefaultTrainer"),
        ("fsdbev.utils.atomic_write", "from fsdbev.data.fake import fake_samples"),
        ("fsdbev.extra", "from tools import train_net"),
    ],
)
def test_violations_are_found(module, source):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fsdbev.structures.grid", "import torch\nfrom .transforms import invert"),
        ("fsdbev.modeling.center_head.head", "from ..blocks import conv3x3\nimport math"),
        (
            "fsdbev.data.transforms.foreground_targets",
            "from fsdbev.layers.heatmaps import elliptical_heatmaps",
        ),
        ("fsdbev.utils.flops", "from fsdbev.data.fake import fake_samples"),
        (
            "fsdbev.evaluation.nuscenes_evaluator",
            "from fsdbev.data.index.frame_index import FrameIndex",
        ),
        ("fsdbev.d2.engine", "from detectron2.engine import hooks\nfrom . import BACKEND"),
        ("fsdbev.engine.trainer", "from fsdbev.data import build\nfrom fsdbev.d2 import engine"),
    ],
)
def test_allowed_imports_pass(module, source):
    assert violations(source, module) == []
