"""Compile the loops of golf/nnp/kernels.c for this machine at their first use, and cache them for the user.

Matrix products are left to PyTorch. The operations between them are limited by memory bandwidth if each is a tensor
operation; one pass in C takes a fraction of the time. A call releases Python's lock, so threads run in parallel.
Without a C compiler (cc, gcc or clang, or the one that CC names) everything is computed with tensors, as on a GPU.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golf.core.files import written_whole

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_suffix(".c")
SWITCH = "GOLF_KERNELS"
"""Environment variable; `off` disables the kernels."""

WITHOUT = "the network runs without compiled loops, about three times slower"

FLAGS = ("-O3", "-march=native", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")

SIGNATURES = {
    "message": ("ll", 8),
    "message_back": ("ll", 12),
    "message_back2": ("ll", 17),
    "message_shared": ("ll", 9),
    "message_shared_back": ("ll", 14),
    "context": ("llr", 4),
    "context_back": ("ll", 5),
    "context_back2": ("ll", 8),
    "update": ("ll", 5),
    "update_back": ("ll", 8),
    "update_back2": ("ll", 13),
    "silu": ("l", 2),
    "silu_back": ("l", 3),
    "silu_back2": ("l", 5),
    "basis": ("lld", 5),
    "basis_back": ("ll", 6),
    "basis_back2": ("ll", 6),
}
"""Arguments of each function: numbers (l: long, d: double, r: the library's real type), and the number of pointers."""


class Kernels:
    """The functions of one compiled library; tensors are passed without conversion and must be contiguous."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        library = ctypes.CDLL(str(path))
        self._dtypes = (dtype, torch.int64)
        real = ctypes.c_float if dtype == torch.float32 else ctypes.c_double
        types = {"l": ctypes.c_long, "d": ctypes.c_double, "r": real}
        self._functions = {}
        for name, (letters, n_pointers) in SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes = [*(types[letter] for letter in letters), *[ctypes.c_void_p] * n_pointers]
            function.restype = None
            self._functions[name] = function

    def __call__(self, name: str, *arguments: Tensor | int | float | None) -> None:
        """Call a function by its name; None is passed as a null pointer.

        Raises:
            ValueError: a tensor is not contiguous, or has neither the library's type nor int64.
        """
        self._functions[name](*[self._pointer(a) if isinstance(a, Tensor) else a for a in arguments])

    def _pointer(self, tensor: Tensor) -> int:
        if not tensor.is_contiguous() or tensor.dtype not in self._dtypes:
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} and {tensor.dtype} is not for these kernels")
        return tensor.data_ptr()


_ONE_AT_A_TIME = threading.Lock()


def kernels(dtype: torch.dtype, device_type: str = "cpu") -> Kernels | None:
    """Return the library for tensors of this type, compiled if necessary; None if there is none."""
    key = (dtype, device_type)
    if key not in _FOUND:
        with _ONE_AT_A_TIME:
            if key not in _FOUND:
                _FOUND[key] = _find(dtype, device_type)
    return _FOUND[key]


_FOUND: dict[tuple[torch.dtype, str], Kernels | None] = {}


def _find(dtype: torch.dtype, device_type: str) -> Kernels | None:
    if device_type != "cpu" or dtype not in (torch.float32, torch.float64) or os.environ.get(SWITCH) == "off":
        return None
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang"))), None)
    if compiler is None:
        logger.warning("no C compiler (cc, gcc or clang): %s", WITHOUT)
        return None
    options = [*FLAGS, *(["-DDOUBLE"] if dtype == torch.float64 else [])]
    name = f"kernels-{_key(compiler, options)}.so"
    folder = _cache()
    try:
        if folder is not None:
            return _loaded(folder / name, [compiler, *options], dtype)
        with tempfile.TemporaryDirectory(prefix="golf-kernels-") as temporary:
            return _loaded(Path(temporary) / name, [compiler, *options], dtype)
    except subprocess.CalledProcessError as error:
        reason = next(iter(error.stderr.strip().splitlines()), "")
        logger.warning("%s cannot compile golf/nnp/kernels.c (%s): %s", compiler, reason, WITHOUT)
    except OSError as error:
        logger.warning("the compiled golf/nnp/kernels.c is unusable (%s): %s", error, WITHOUT)
    return None


def _loaded(path: Path, command: list[str], dtype: torch.dtype) -> Kernels:
    """Load the library at `path`; compile it if it is missing or damaged."""
    if path.is_file():
        try:
            return Kernels(path, dtype)
        except (OSError, AttributeError) as error:
            logger.warning("%s is damaged and will be compiled again: %s", path, error)
    started = time.monotonic()
    with written_whole(path) as temporary:
        subprocess.run(
            [*command, str(SOURCE), "-o", str(temporary), "-lm"],
            check=True,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    logger.info("compiled %s in %.1f s: %s", SOURCE.name, time.monotonic() - started, path)
    return Kernels(path, dtype)


def _cache() -> Path | None:
    """Return the user's cache folder; None if it cannot be created or is not writable."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "golf"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # the latter if there is no home
        return None
    return folder if os.access(folder, os.W_OK) else None


def _key(compiler: str, options: list[str]) -> str:
    """Return a hash of source, compiler, options and kind of processor, as nodes of a cluster may share a home."""
    processor: Any = os.uname().machine
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = ("model", "flags", "cpu family", "Features", "CPU")
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        processor = [line for line in lines[:40] if line.startswith(names)]
    parts = (SOURCE.read_text(encoding="utf-8"), compiler, os.stat(compiler).st_mtime_ns, options, processor)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
