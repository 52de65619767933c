"""Where data live, and how they get there: the data home, imports, downloads and checksums.

An imported data set is a folder `<home>/<world>/<name>/` with a `manifest.json` that is written last. A folder without
a manifest is a half-done import; a file whose hash is not the manifest's is damaged. Both are said, never guessed over.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pydantic

from stepagent_envs.errors import DataError, did_you_mean

__all__ = [
    "DataSet",
    "Download",
    "Importer",
    "IMPORTERS",
    "data_home",
    "fetch",
    "find",
    "import_data",
    "importer",
    "installed",
    "verify",
]

IMPORTERS = {"alfworld": "stepagent_envs.alfworld.importer", "webshop": "stepagent_envs.webshop.importer"}
"""World -> module that satisfies `Importer`. ScienceWorld's data are in its package: nothing to import."""


class DataSet(pydantic.BaseModel):
    """The manifest of an imported data set.

    Attributes:
        world, name: `official`, or a name of the user's.
        hash: hash of the content (hex), independent of how the files were packed.
        counts: what is in it, for example games per split.
        files: SHA-256 of every file of the folder, by relative path.
    """

    model_config = pydantic.ConfigDict(extra="forbid")

    world: str
    name: str
    hash: str
    counts: dict[str, int]
    files: dict[str, str]
    format: int = 1

    @property
    def path(self) -> Path:
        """Folder of the data set."""
        return data_home() / self.world / self.name


@dataclass(frozen=True, slots=True)
class Download:
    """A published file: its address, what to save it as, and its size in bytes where known."""

    url: str
    filename: str
    note: str = ""


class Importer(Protocol):
    """What a world's importer module offers."""

    DOWNLOADS: tuple[Download, ...]
    OFFICIAL_HASH: str
    """Content hash of the complete official data, to recognise them by."""

    @staticmethod
    def build(source: Path, target: Path) -> tuple[dict[str, int], str]:
        """Read the user's files under `source`, write ours into the empty folder `target`; return counts and hash."""


def data_home() -> Path:
    """`$STEPAGENT_HOME`, else the platform's user cache folder."""
    home = os.environ.get("STEPAGENT_HOME")
    if home:
        return Path(home)
    import platformdirs

    return Path(platformdirs.user_cache_dir("stepagent"))


def importer(world: str) -> Importer:
    """The importer module of a world."""
    if world == "scienceworld":
        raise DataError("scienceworld needs no import: its data are inside the `scienceworld` package")
    if world not in IMPORTERS:
        raise DataError(f"no importer for {world!r}; {did_you_mean(world, IMPORTERS)}")
    return importlib.import_module(IMPORTERS[world])  # type: ignore[return-value]


def sha256_file(path: Path) -> str:
    """SHA-256 of a file (hex)."""
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file.read())
        )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def import_data(world: str, source: str | Path, name: str = "official", expected_hash: str | None = None) -> DataSet:
    """Import a user's files into the data home. The data set appears whole or not at all.

    Args:
        world: whose data. source: file or folder. name: what to keep them under.
        expected_hash: refuse content of another hash.

    Raises:
        DataError: nothing to import at `source`, damaged files, or another hash; says which and what to do.
    """
    module = importer(world)
    source = Path(source).expanduser()
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; give the folder that holds the {world} data")
    target = data_home() / world / name
    part = target.with_name(f".{name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        counts, content_hash = module.build(source, part)
        if expected_hash not in (None, content_hash):
            raise DataError(
                f"the {world} data in {source} have the hash {content_hash[:12]}, the published ones "
                f"{str(expected_hash)[:12]}; to use them anyhow, `stepagent data import {world} {source} --name X`"
            )
        files = {p.relative_to(part).as_posix(): sha256_file(p) for p in sorted(part.rglob("*")) if p.is_file()}
        data_set = DataSet(world=world, name=name, hash=content_hash, counts=counts, files=files)
        (part / "manifest.json").write_text(data_set.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return data_set


def find(world: str, name: str = "official") -> DataSet:
    """The manifest of an imported data set; raises `DataError` with the command that mends it when there is none."""
    path = data_home() / world / name / "manifest.json"
    mend = f"run `stepagent data import {world} PATH` (or `stepagent data fetch {world}`)"
    if not path.is_file():
        half = " (a half-done import is there)" if path.parent.exists() else ""
        raise DataError(f"{world}'s {name} data are not in {data_home()}{half}; {mend}")
    try:
        return DataSet.model_validate_json(path.read_text(encoding="utf-8"))
    except (pydantic.ValidationError, UnicodeDecodeError):
        raise DataError(f"{path}: damaged manifest; {mend} again") from None


def installed() -> list[DataSet]:
    """Every imported data set."""
    manifests = sorted(data_home().glob("*/*/manifest.json"))
    return [
        find(path.parent.parent.name, path.parent.name) for path in manifests if not path.parent.name.startswith(".")
    ]


def verify(data_set: DataSet) -> list[str]:
    """Compare every file with its checksum; returns one line for each that is missing or differs."""
    problems = []
    for name, expected in data_set.files.items():
        path = data_set.path / name
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif sha256_file(path) != expected:
            problems.append(f"{path}: its checksum is not the manifest's")
    return problems


def fetch(world: str, progress: Callable[[str], None] = lambda line: None, timeout: float = 30.0) -> DataSet:
    """Download a world's published files and import them.

    Raises:
        DataError: no network, or a file that is not the published one; says how to get the files by hand.
    """
    module = importer(world)
    folder = data_home() / "downloads" / world
    folder.mkdir(parents=True, exist_ok=True)
    for download in module.DOWNLOADS:
        path = folder / download.filename
        if path.exists():
            progress(f"{download.filename}: already here")
            continue
        progress(f"{download.filename}: from {download.url}")
        part = path.with_name(path.name + ".part")
        try:
            with urllib.request.urlopen(download.url, timeout=timeout) as reply, open(part, "wb") as file:
                shutil.copyfileobj(reply, file)
        except (urllib.error.URLError, OSError, TimeoutError) as error:
            part.unlink(missing_ok=True)
            by_hand = "; ".join(f"{d.url} (save as {d.filename})" for d in module.DOWNLOADS)
            raise DataError(
                f"could not download {download.filename} ({error}); get the files by hand: {by_hand}; "
                f"then run `stepagent data import {world} FOLDER`"
            ) from None
        os.replace(part, path)
    return import_data(world, folder, expected_hash=module.OFFICIAL_HASH)


def dump_json(path: Path, value: object) -> None:
    """Write JSON so that equal values give equal bytes."""
    path.write_text(
        json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n", encoding="utf-8"
    )
