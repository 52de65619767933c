"""Opening data sets by name: the built-in shop (made once, kept in the data home), imported ones, and folders."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from stepagent_envs.data import data_home, find
from stepagent_envs.errors import DataError
from stepagent_envs.webshop.catalogue import Catalogue, write_store
from stepagent_envs.webshop.generator import GOALS_PER_PRODUCT, generate
from stepagent_envs.webshop.nouns import RULE

__all__ = ["BUILTIN_HASH", "BUILTIN_SIZE", "builtin_name", "open_catalogue"]

BUILTIN_SIZE = 1000
BUILTIN_VERSION = 1
BUILTIN_HASH = "1e7f67b4d86410b97beed5c750370c66897e81073e21705d8f0b66bc296a9e3a"
"""Content hash of the built-in shop of 1,000 products, seed 0: the same for ever."""

_BUILTIN = re.compile(r"builtin(?::(\d{1,8}))?(?::(\d{1,9}))?")
_open: dict[tuple[Path, int], Catalogue] = {}
"""Opened stores, by folder and time of writing: a store that is imported anew is opened anew."""


def builtin_name(count: int = BUILTIN_SIZE, seed: int = 0) -> str:
    """Name of a built-in data set in task ids: `builtin-1`, with size and seed where these are not the default."""
    name = f"builtin-{BUILTIN_VERSION}"
    if count != BUILTIN_SIZE:
        name += f"-n{count}"
    return name + (f"-s{seed}" if seed else "")


def open_catalogue(data: str) -> Catalogue:
    """The catalogue of a data set; opened once in a process.

    Args:
        data: `"builtin"`, `"builtin:<products>"`, `"builtin:<products>:<seed>"`, the name of an imported data set
            (`"official"`), or a folder: a store, or the published files.

    Raises:
        DataError: unknown or damaged data; says what to do.
    """
    folder = _folder(data)
    written = folder / "store.json"
    key = (folder, written.stat().st_mtime_ns if written.is_file() else 0)
    if key not in _open:
        _open[key] = Catalogue(folder)
    return _open[key]


def _folder(data: str) -> Path:
    match = _BUILTIN.fullmatch(data)
    if match:
        count, seed = int(match.group(1) or BUILTIN_SIZE), int(match.group(2) or 0)
        if not count:
            raise DataError("a shop needs at least one product: data='builtin:1000'")
        return _builtin(count, seed)
    path = Path(data).expanduser()
    if path.is_dir():
        return path if (path / "store.json").is_file() else _from_files(path)
    if os.sep in data or "/" in data:
        raise DataError(f"{data}: no such folder; give one that holds items_shuffle*.json and items_ins_v2*.json")
    return find("webshop", data).path


def _cached(name: str, make: Callable[[Path], None]) -> Path:
    """A store in the cache, made there (whole or not at all) when it is missing."""
    for home in (data_home() / "cache" / "webshop", Path(tempfile.gettempdir()) / f"stepagent-{_user()}" / "webshop"):
        target = home / name
        if (target / "store.json").is_file():
            return target
        try:
            home.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=home))
        except OSError:
            continue
        try:
            make(part)
            part.chmod(0o755)
            os.replace(part, target)
        except OSError:
            if not (target / "store.json").is_file():  # else another process was first
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return target
    raise DataError(f"neither {data_home()} nor {tempfile.gettempdir()} can be written; set STEPAGENT_HOME to a folder")


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"


def _builtin(count: int, seed: int) -> Path:
    name = builtin_name(count, seed)
    default = count == BUILTIN_SIZE and not seed

    def make(folder: Path) -> None:
        info = write_store(folder, name, generate(count, seed), RULE, GOALS_PER_PRODUCT)
        if default and info.hash != BUILTIN_HASH:
            raise DataError(
                f"the built-in shop has the hash {info.hash[:12]} instead of {BUILTIN_HASH[:12]}: the package's files "
                f"were changed; install it again"
            )

    return _cached(f"{name}-{BUILTIN_HASH[:8]}", make)


def _from_files(path: Path) -> Path:
    """A store of the published files in a folder, kept in the cache and made anew when they change."""
    from stepagent_envs.webshop.importer import build

    marks = [f"{p.name} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in sorted(path.glob("*.json"))]
    key = hashlib.sha256("\n".join([str(path.resolve()), *marks]).encode()).hexdigest()[:16]

    def make(folder: Path) -> None:
        build(path, folder)

    return _cached(f"files-{key}", make)
