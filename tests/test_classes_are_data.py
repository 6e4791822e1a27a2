"""nuScenes' classes, categories, attributes and ranges stand in few modules; all others take them
from a ``ClassSet`` and a ``BEVGrid``."""

import ast
from pathlib import Path

import pytest

from fsdbev.structures import NUSCENES_CLASSES

ROOT = Path(__file__).parents[1]
#: nuScenes' own modules: its data format, the synthetic world in that format, its metrics.
ALLOWED = (
    "fsdbev/structures/",
    "fsdbev/data/nuscenes/",
    "fsdbev/data/synthetic/",
    "fsdbev/evaluation/nuscenes_evaluator.py",
    "fsdbev/evaluation/nuscenes_truth.py",
)
TEXTS = {
    *NUSCENES_CLASSES.names,
    *NUSCENES_CLASSES.static_attributes,
    *(text for pair in NUSCENES_CLASSES.attributes.values() for text in pair if text),
    *(text for categories in NUSCENES_CLASSES.categories.values() for text in categories),
}
#: Bounds of nuScenes' grid and of the release's range of centers, metres.
NUMBERS = {51.2, 61.2}


def modules():
    paths = [*(ROOT / "fsdbev").rglob("*.py"), *(ROOT / "projects").glob("*/modeling/*.py")]
    names = [str(path.relative_to(ROOT)) for path in sorted(paths)]
    return [name for name in names if not name.startswith(ALLOWED)]


def nuscenes_constants(source):
    """Returns the constants and names of nuScenes in a module; docstrings are exempt."""
    tree = ast.parse(source)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                docstrings.add(first.value)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node not in docstrings:
            is_number = isinstance(node.value, float) and abs(node.value) in NUMBERS
            if is_number or (isinstance(node.value, str) and node.value in TEXTS):
                found.append(node.value)
        elif isinstance(node, ast.Name | ast.alias):
            name = node.id if isinstance(node, ast.Name) else node.name
            if name.startswith("NUSCENES_"):
                found.append(name)
    return found


@pytest.mark.parametrize("name", modules())
def test_a_module_holds_no_constant_of_nuscenes(name):
    assert nuscenes_constants((ROOT / name).read_text()) == []


def test_the_search_finds_what_it_looks_for():
    source = '"""car"""\nfrom x import NUSCENES_CLASSES\nA = ["car", 61.2, "vehicle.car", "cart"]\n'
    assert sorted(map(str, nuscenes_constants(source))) == [
        "61.2",
        "NUSCENES_CLASSES",
        "car",
        "vehicle.car",
    ]
