"""Builds the compiled operators of ``fsdbev.layers`` by what the machine has.

- PyTorch and a C++ compiler: the CPU kernels.
- A CUDA build of PyTorch and its CUDA toolkit as well: the CUDA kernels (TORCH_CUDA_ARCH_LIST says
  for which GPUs; without it those of this machine, or else compute capability 7.5 to 9.0 and, by
  compilation when they are loaded, newer ones).
- Otherwise, or with FSDBEV_NO_EXT=1: none, and the operators run in plain PyTorch.

FSDBEV_NO_CUDA=1 leaves the CUDA kernels out. FSDBEV_SANITIZE names sanitizers of GCC or Clang to
build the CPU kernels with (tools/check_kernels.sh). An installation goes on without the extension
when its build fails; ``python setup.py build_ext --inplace`` stops with the compiler's error. The
package's metadata is in pyproject.toml.
"""

import logging
import os
import sys
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent
CSRC = Path("fsdbev") / "layers" / "csrc"
CUDA_ARCHITECTURES = "7.5;8.0;8.6;8.9;9.0+PTX"

logger = logging.getLogger("fsdbev.setup")

try:
    import torch
    from torch.utils import cpp_extension
except ImportError as error:
    cpp_extension = None
    TORCH_ERROR = error


def is_set(name):
    return os.environ.get(name, "0").lower() not in ("", "0", "false", "no")


def warn(reason):
    logger.warning(
        "fsdbev is installed WITHOUT its compiled operators: %s. It works, slower. To build them: "
        "pip install -e . --no-build-isolation --no-deps (FSDBEV_NO_CUDA=1: for the CPU only)",
        reason,
    )


def sources(pattern):
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / CSRC).glob(pattern))


def make_extension():
    sanitizers = os.environ.get("FSDBEV_SANITIZE", "")
    with_cuda = (
        not sanitizers
        and torch.version.cuda is not None
        and cpp_extension.CUDA_HOME is not None
        and not is_set("FSDBEV_NO_CUDA")
    )
    # No fused multiply-add: frustum points land in the same cell on every machine.
    cxx = ["/O2"] if os.name == "nt" else ["-O3", "-ffp-contract=off"]
    if sys.platform.startswith("linux"):
        cxx.append("-fopenmp")  # at::parallel_for runs on the OpenMP library that PyTorch loads
    link = []
    if sanitizers:
        link = [f"-fsanitize={sanitizers}"]
        cxx += [*link, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"]
        cxx.append("-fno-wrapv")  # Python's own flags let signed numbers overflow in silence
    arguments = {"sources": sources("*.cpp") + sources("cpu/*.cpp"), "py_limited_api": True}
    arguments["depends"] = sources("**/*.h") + sources("**/*.cuh")
    arguments |= {"extra_compile_args": {"cxx": cxx}, "extra_link_args": link}
    if not with_cuda:
        return cpp_extension.CppExtension("fsdbev.layers._C", **arguments)
    if not torch.cuda.is_available():
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", CUDA_ARCHITECTURES)
    arguments["sources"] += sources("cuda/*.cu")
    arguments["define_macros"] = [("FSDBEV_WITH_CUDA", "1")]
    arguments["extra_compile_args"]["nvcc"] = ["-O3", "--fmad=false"]
    return cpp_extension.CUDAExtension("fsdbev.layers._C", **arguments)


def build_command():
    class BuildExtension(cpp_extension.BuildExtension):
        """Goes on without the extension when an installation cannot build it."""

        def run(self):
            # An editable installation builds in place too, and says so.
            self.asked_for = self.inplace and not getattr(self, "editable_mode", False)
            super().run()

        def build_extensions(self):
            try:
                super().build_extensions()
            except Exception as error:
                if self.asked_for:
                    raise
                warn(f"their build failed ({error})")
                self.extensions = []

    return BuildExtension


def extension_arguments():
    if is_set("FSDBEV_NO_EXT"):
        warn("FSDBEV_NO_EXT is set")
        return {}
    if cpp_extension is None:
        warn(f"PyTorch cannot be imported while building ({TORCH_ERROR})")
        return {}
    return {
        "ext_modules": [make_extension()],
        "cmdclass": {"build_ext": build_command()},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


setup(license="Apache-2.0", **extension_arguments())
