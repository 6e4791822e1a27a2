"""The layout of fsdbev/: folders of few files, no fragments, and one meaning for each name."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Folders with more files: Detectron2's own module names, and the parts of one small world.
LARGE = {"fsdbev/d2/_builtin", "fsdbev/data/synthetic"}
MAX_FILES = 14
MIN_LINES = 30


def modules():
    """Paths below the root of all modules except ``fsdbev/d2``, which mirrors Detectron2's names,
    and ``fsdbev/layers/reference``, which mirrors ``fsdbev/layers``."""
    paths = [path.relative_to(ROOT) for path in sorted((ROOT / "fsdbev").rglob("*.py"))]
    mirrors = ("fsdbev/d2/", "fsdbev/layers/reference/")
    return [p for p in paths if p.name != "__init__.py" and not str(p).startswith(mirrors)]


def test_a_folder_has_few_files():
    counts = defaultdict(int)
    for path in (ROOT / "fsdbev").rglob("*.py"):
        counts[str(path.parent.relative_to(ROOT))] += path.name != "__init__.py"
    assert {f: n for f, n in counts.items() if n > MAX_FILES and f not in LARGE} == {}


def test_no_module_is_a_fragment():
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in modules()}
    assert {path: n for path, n in lengths.items() if n < MIN_LINES} == {}


def test_no_module_shares_its_name():
    names = defaultdict(list)
    for path in modules():
        names[path.stem].append(str(path))
    folders = {path.name for path in (ROOT / "fsdbev").rglob("*") if path.is_dir()}
    assert {n: paths for n, paths in names.items() if len(paths) > 1 or n in folders} == {}


def test_no_public_class_or_function_shares_its_name():
    places = defaultdict(list)
    for path in modules():
        for node in ast.parse((ROOT / path).read_text()).body:
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(str(path))
            elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                places[node.name].append(str(path))
    # The entry points of two commands; rotation_z of tensors, and of the float64 arrays of NumPy.
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert shared.keys() == {"main", "rotation_z"}
