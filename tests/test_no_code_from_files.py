"""No source file calls a function that executes the content of a file."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("fsdbev", "projects", "tools", "configs")

#: Dotted names of functions that execute their input or run a shell.
NEVER = {
    *(
        f"{module}.{call}"
        for module in ("pickle", "dill", "cloudpickle")
        for call in ("load", "loads")
    ),
    *("pickle.Unpickler", "marshal.load", "marshal.loads", "shelve.open", "joblib.load"),
    *("torch.hub.load", "torch.jit.load", "pandas.read_pickle", "pd.read_pickle"),
    *("yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all"),
    *("os.system", "os.popen", "eval", "exec", "runpy.run_path", "subprocess.getoutput"),
}
#: The only file that executes Python configs.
RUN_CONFIGS = {"fsdbev/d2/_builtin/config.py"}


def name_of(node):
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def argument(call, name):
    values = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def loaders(tree):
    """Returns the names of safe YAML loaders, including those that the file defines."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    safe = {c.name for c in classes if {name_of(b) for b in c.bases} == {"yaml.SafeLoader"}}
    return safe | {"yaml.SafeLoader", "yaml.CSafeLoader"}


def problems(source):
    """Returns line and name of each call that would execute its input."""
    tree = ast.parse(source)
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = name_of(call.func)
        given = {keyword.arg for keyword in call.keywords}
        is_bad = name in NEVER or ("shell" in given and argument(call, "shell") is not False)
        if name == "torch.load":
            is_bad = argument(call, "weights_only") is not True
        elif name == "yaml.load":
            loader = call.args[1:] or [k.value for k in call.keywords if k.arg == "Loader"]
            is_bad = not loader or name_of(loader[0]) not in loaders(tree)
        elif name in ("np.load", "numpy.load"):
            is_bad = "allow_pickle" in given and argument(call, "allow_pickle") is not False
        if is_bad:
            found.append(f"line {call.lineno}: {name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found += [f"line {node.lineno}: {name}" for name in names & (NEVER | HIDDEN)]
    return found


#: Functions that must be called by their full name, so that this check finds the calls.
HIDDEN = {"torch.load", "yaml.load", "numpy.load"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_source_runs_what_it_reads(folder):
    bad, count = [], 0
    for path in (ROOT / folder).rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if "/tests/" not in name:
            count += 1
            found = problems(path.read_text(encoding="utf-8"))
            if name in RUN_CONFIGS:
                found = [problem for problem in found if not problem.endswith(": exec")]
            bad += [f"{name}, {problem}" for problem in found]
    assert not bad, "\n".join(bad)
    assert count > (100 if folder == "fsdbev" else 0)


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "pickle.loads(data)",
        "pickle.Unpickler(file).load()",
        "from pickle import load",
        "from torch import load",
        "yaml.load(text)",
        "yaml.load(text, yaml.Loader)",
        "yaml.load(text, Loader=yaml.UnsafeLoader)",
        "class L(yaml.Loader): pass\nyaml.load(text, L)",
        "yaml.unsafe_load(text)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "torch.hub.load(a, b)",
    ],
)
def test_problems_are_found(source):
    assert len(problems(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, weights_only=True)",
        "class L(yaml.SafeLoader): pass\nyaml.load(text, L)",
        "yaml.safe_load(text)",
        "np.load(path)",
        "model.eval()",
        "subprocess.run([a, b])",
    ],
)
def test_safe_calls_pass(source):
    assert problems(source) == []
