"""Single point of import of Detectron2's API, with a built-in replacement.

The modules of this package have the names of Detectron2's (config, engine, data, evaluation,
checkpoint, modeling, solver, structures, utils): ``from fsdbev.d2.engine import hooks``. If
Detectron2 is installed, they re-export its objects; otherwise they re-export ``_builtin``, which
implements the part of the API that this project uses and that hooks, models and evaluators of
Detectron2 users call. The environment variable ``FSDBEV_D2`` (``builtin`` or ``detectron2``)
selects the backend. An installed Detectron2 that cannot be imported raises an error: a silent
switch of the backend would change how a training runs.
"""

import importlib
import importlib.util
import os

_VARIABLE = "FSDBEV_D2"


def _is_installed() -> bool:
    """Returns whether ``import detectron2`` finds a package."""
    spec = importlib.util.find_spec("detectron2")
    # A folder without __init__.py, such as a clone of the repository in the working directory, is
    # found as a namespace package, which has no origin.
    return spec is not None and spec.origin is not None


def _choose_backend() -> str:
    """Returns ``"builtin"`` or ``"detectron2"``; imports Detectron2 in the latter case.

    Raises:
        ValueError: if ``FSDBEV_D2`` has another value.
        ImportError: if ``FSDBEV_D2`` selects a Detectron2 that is not installed, or if the
            installed one cannot be imported.
    """
    choice = os.environ.get(_VARIABLE) or None
    if choice not in (None, "builtin", "detectron2"):
        raise ValueError(f"{_VARIABLE}={choice!r}: it must be 'builtin', 'detectron2' or unset")
    if choice == "builtin" or (choice is None and not _is_installed()):
        return "builtin"
    if not _is_installed():
        raise ImportError(
            f"{_VARIABLE}=detectron2, but Detectron2 is not installed. Install it "
            f"(https://github.com/facebookresearch/detectron2), or set {_VARIABLE}=builtin"
        )
    try:
        importlib.import_module("detectron2.engine")  # imports every module that is mirrored here
    except Exception as error:
        # Not only ImportError: an older Detectron2 with Pillow 10 raises AttributeError, for one.
        raise ImportError(
            f"Detectron2 is installed but cannot be imported ({type(error).__name__}: {error}). "
            f"Repair or uninstall it, or set {_VARIABLE}=builtin to do without it"
        ) from error
    return "detectron2"


#: Backend of all modules of this package: ``"builtin"`` or ``"detectron2"``.
BACKEND = _choose_backend()
