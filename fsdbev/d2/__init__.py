"""The only door to Detectron2.

``from fsdbev.d2.engine import hooks``: the modules of this package are named as Detectron2's own
(config, engine, data, evaluation, checkpoint, modeling, structures, utils). With Detectron2
installed their names *are* its objects; without it ``_builtin`` supplies the part of them that is
used here, with the same behaviour. The environment variable ``FSDBEV_D2`` (``builtin`` or
``detectron2``) forces one side; an installed but broken Detectron2 is an error, never a fallback.
"""

import importlib
import importlib.util
import os

_VARIABLE = "FSDBEV_D2"


def _is_installed() -> bool:
    """True where ``import detectron2`` finds a package. A folder of that name without an
    ``__init__.py``, such as a clone of its repository in the working directory, is none."""
    spec = importlib.util.find_spec("detectron2")
    return spec is not None and spec.origin is not None


def _choose_backend() -> str:
    """``"builtin"`` or ``"detectron2"``, with Detectron2 already imported in the latter case."""
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
        raise ImportError(
            f"Detectron2 is installed but cannot be imported ({type(error).__name__}: {error}). "
            f"Repair or uninstall it, or set {_VARIABLE}=builtin to do without it"
        ) from error
    return "detectron2"


#: Which side of the door is open: ``"builtin"`` or ``"detectron2"``.
BACKEND = _choose_backend()
