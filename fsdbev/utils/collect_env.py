"""Environment information for logs, reports of results and bug reports.

``python -m fsdbev.utils.collect_env`` prints it as a table. A fact that cannot be read has a line
with the reason.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module, metadata
from pathlib import Path

from fsdbev import __version__

ROOT = Path(__file__).resolve().parents[2]

#: Packages besides PyTorch: the dependencies in pyproject.toml, and optional packages.
PACKAGES = (
    "numpy",
    "nuscenes-devkit",
    "fvcore",
    "iopath",
    "filelock",
    "omegaconf",
    "hydra-core",
    "safetensors",
    "pyarrow",
    "shapely",
    "opencv-python-headless",
    "pillow",
    "simplejpeg",
    "matplotlib",
    "jinja2",
    "tqdm",
    "av",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "tensorboard",
    "wandb",
)

#: Environment variables that influence a run; those that start with FSDBEV_ are added.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "GOMP_SPINCOUNT",
    "LOCAL_RANK",
    "MKL_NUM_THREADS",
    "NCCL_DEBUG",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "ONEDNN_MAX_CPU_ISA",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "RANK",
    "SLURM_NNODES",
    "TORCH_CUDA_ARCH_LIST",
    "WORLD_SIZE",
)


def environment() -> dict[str, str]:
    """Returns name -> value of each fact, in reading order.

    Paths are relative to the project's root or to the home folder (``~``), so that a published
    report contains no user name.
    """
    facts: dict[str, str] = {}
    for name, read in (
        ("fsdbev", project_version),
        ("Python", lambda: " ".join(sys.version.split())),
        ("platform", platform.platform),
        ("CPU", _cpu),
        ("memory", _memory),
        ("PyTorch", _torch),
        ("CUDA", _cuda),
        ("cuDNN", _cudnn),
        ("operators", _operators),
        ("Detectron2", _detectron2),
    ):
        facts[name] = _without_home(_read_fact(read))
        if name == "CUDA":
            facts |= dict(_gpus())
    facts |= {name: _read_fact(partial(_version, name)) for name in PACKAGES}
    facts |= {name: _without_home(os.environ[name]) or "(empty)" for name in _variables()}
    return facts


def as_table(facts: dict[str, str]) -> str:
    """Formats the facts as a table with one line per fact."""
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in facts.items())


def _read_fact(read: Callable[[], str]) -> str:
    """Returns the result of ``read``, or the reason why it failed."""
    try:
        return read()
    except Exception as error:  # a broken installation must not hide the other facts
        reason = " ".join(str(error).split())
        return f"unavailable ({type(error).__name__}: {reason})"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def project_version() -> str:
    """Returns the version of the project, in a clone with its revision."""
    revision = _output("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
    if not (ROOT / ".git").exists() or not revision:
        return __version__
    changed = _output("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    return f"{__version__}, git {revision}" + (" with changes" if changed else "")


@cache
def cpu_model() -> str:
    """Returns the name of this machine's processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cpu_model()}, {usable} of {os.cpu_count()} cores usable"


def _memory() -> str:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return f"{pages * size / 2**30:.1f} GiB"


def _torch() -> str:
    torch = import_module("torch")
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{torch.__version__}, {torch.get_num_threads()} CPU threads, {instructions}"


def _cuda() -> str:
    torch = import_module("torch")
    if torch.version.cuda is None:
        return "none: PyTorch is built for the CPU"
    driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    driver = f"driver {driver.splitlines()[0]}" if driver else "no driver found"
    return f"PyTorch built with {torch.version.cuda}, {driver}, {torch.cuda.device_count()} GPUs"


def _gpus() -> Iterator[tuple[str, str]]:
    try:
        cuda = import_module("torch").cuda
        count = cuda.device_count()
    except Exception:  # the line "PyTorch" has the reason
        return
    for index in range(count):
        yield f"GPU {index}", _read_fact(partial(_gpu, index))


def _gpu(index: int) -> str:
    gpu = import_module("torch").cuda.get_device_properties(index)
    memory = f"{gpu.total_memory / 2**30:.1f} GiB"
    return f"{gpu.name}, {memory}, compute capability {gpu.major}.{gpu.minor}"


def _cudnn() -> str:
    version = import_module("torch").backends.cudnn.version()
    return str(version) if version is not None else "none"


def _operators() -> str:
    extension = import_module("fsdbev.layers._extension")
    if not extension.EXTENSION_BUILT:
        return f"not built, slower PyTorch references are used ({extension.LOAD_ERROR})"
    if "cuda" in extension.KERNEL_DEVICES:
        return "built for CPU and CUDA"
    cuda = import_module("torch").version.cuda
    why = f"without nvcc, or with FSDBEV_NO_CUDA=1; PyTorch has CUDA {cuda}" if cuda else ""
    return f"built for the CPU only ({why or 'like PyTorch'})"


def _detectron2() -> str:
    if import_module("fsdbev.d2").BACKEND == "detectron2":
        return f"{_version('detectron2')}, used"
    return f"{_version('detectron2')}; the built-in replacement is used"


def _variables() -> list[str]:
    ours = {name for name in os.environ if name.startswith("FSDBEV_")}
    return sorted(ours | {name for name in VARIABLES if name in os.environ})


def _output(*command: str) -> str:
    """Returns the output of a command; "" if it is not installed or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _without_home(text: str) -> str:
    """Shortens the project's root and the home folder in paths."""
    text = text.replace(f"{ROOT}{os.sep}", "")
    home = os.path.expanduser("~")
    # Without a home folder expanduser returns "~"; for "/" every path would be shortened.
    return text if home in ("", "~", os.sep) else text.replace(home, "~")


def main() -> None:
    sys.stdout.write(as_table(environment()) + "\n")


if __name__ == "__main__":
    main()
