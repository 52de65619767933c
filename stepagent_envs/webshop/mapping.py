"""Files as memory: read-only maps that worker processes share."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stepagent_envs.errors import DataError

__all__ = ["mapped", "mapped_bytes"]


def mapped(path: Path) -> npt.NDArray[Any]:
    """The array of a `.npy` file as a read-only view of the mapped file."""
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: missing or damaged ({error}); import the data again") from None


def mapped_bytes(path: Path) -> mmap.mmap | bytes:
    """The bytes of a file; slices of the result are `bytes`."""
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        raise DataError(f"{path}: missing or damaged ({error}); import the data again") from None
