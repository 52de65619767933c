"""Importing the official games: from the published folders or zip, or from JSON lines, into one compiled file.

Understood are, below the path given (or the path itself):
- `<split>/<task>/<trial>/game.tw-pddl`, at any depth, with or without `traj_data.json` beside it;
- `<split>.jsonl` or `.jsonl.xz`, one game a line with an `id`;
- `.zip` files that hold either.

A damaged game is named with what is wrong with it and left out; the others are imported. Games that the publisher
marked as not solvable are left out, as the original does, and so are those that it never plays.
"""

from __future__ import annotations

import io
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from stepagent_envs.alfworld.compiler import RAW_FIELDS, compile_game
from stepagent_envs.alfworld.engine import Game, World
from stepagent_envs.alfworld.experts import oracle
from stepagent_envs.alfworld.grammar import Wording
from stepagent_envs.alfworld.store import STORE_NAME, write_store
from stepagent_envs.alfworld.tables import room_of, room_of_scene
from stepagent_envs.data import Download
from stepagent_envs.errors import DataError

__all__ = ["DOWNLOADS", "OFFICIAL_HASH", "PROBLEMS_NAME", "build", "compile_checked", "raw_games"]

DOWNLOADS = (
    Download(
        "https://github.com/alfworld/alfworld/releases/download/0.2.2/json_2.1.1_tw-pddl.zip",
        "json_2.1.1_tw-pddl.zip",
        "the text games of version 2.1.1, 45 MB",
    ),
)
"""The published text games in the wording "put X in/on Y". Release 0.4.2 has them in the later wording, "move X to Y"
(`json_2.1.3_tw-pddl.zip`); they can be imported from a path and have a hash of their own."""

OFFICIAL_HASH = "d0b7231f1f26f31cdca3b4e33992b24e439b6408d4ab127b8c98a323babef9b5"
"""Content hash of the complete games of version 2.1.1."""

PROBLEMS_NAME = "problems.txt"
"""Beside the compiled games: one line for every game that was left out."""

SPLITS = ("train", "valid_seen", "valid_unseen")
_UNUSED = re.compile(r"^(valid_train|tests_seen|tests_unseen)/|pick_and_place_with_movable_recep|Sliced")
"""Folders and kinds of games that lie in the published archive and that the original never plays."""

Raw = tuple[str, str, Callable[[], Any]]
"""Where it comes from (for messages), id, and how to read it."""


def build(source: Path, target: Path) -> tuple[dict[str, int], str]:
    """Compile the games under `source` into `target`.

    Returns:
        Number of games per split (plus `left_out` where there were any), and the content hash.

    Raises:
        DataError: no game was found, or every one is damaged.
    """
    problems: list[str] = []
    seen: dict[str, tuple[str, Any]] = {}
    games = []
    for where, game_id, read in raw_games(source):
        if _UNUSED.search(game_id):
            continue
        try:
            raw = read()
            content = [raw.get(name) for name in RAW_FIELDS] if isinstance(raw, dict) else raw
            if game_id in seen:
                if seen[game_id][1] != hash(str(content)):
                    raise DataError(f"it is another game under the name {game_id}, which is also in {seen[game_id][0]}")
                continue
            record = compile_checked(raw)
        except DataError as error:
            problems.append(f"{where}: {error}")
            continue
        seen[game_id] = where, hash(str(content))
        if record is not None:
            games.append((game_id, _room(game_id, record), record))
    if not games:
        why = f"; the first of {len(problems)} problems: {problems[0]}" if problems else ""
        raise DataError(
            f"{source}: no playable ALFWorld game found{why}; give the folder that holds json_2.1.1 (or its .zip)"
        )
    content_hash, counts = write_store(target / STORE_NAME, games)
    if problems:
        (target / PROBLEMS_NAME).write_text("".join(line + "\n" for line in problems), encoding="utf-8")
        counts["left_out"] = len(problems)
    return counts, content_hash


def compile_checked(raw: Any) -> dict[str, Any] | None:
    """Compile a game file's content and check that its goal can be reached; None if it is marked as not solvable.

    Raises:
        DataError: what is wrong with it.
    """
    if not isinstance(raw, dict):
        raise DataError(f"it holds a {type(raw).__name__}, not an object with {'pddl_problem'!r} and the like")
    if raw.get("solvable") is False:
        return None
    record = compile_game(raw)
    world = World(Game(record, Wording.from_json(record["wording"])))
    if world.won():
        raise DataError("its goal is reached before anything is done")
    if oracle(world) is None:
        raise DataError("its goal cannot be reached")
    return record


def _room(game_id: str, record: dict[str, Any]) -> str | None:
    parts = game_id.split("/")
    scene = parts[1].rpartition("-")[2] if len(parts) > 2 else ""
    return (room_of_scene(int(scene)) if scene.isdigit() else None) or room_of(rec[0] for rec in record["recs"])


# --- finding games ---------------------------------------------------------------------------------------------------


def raw_games(source: Path) -> Iterator[Raw]:
    """Every game below a path, in sorted order, not yet read."""
    if source.is_file():
        yield from _from_file(source)
        return
    for path in sorted(source.rglob("*")):
        if path.name == "game.tw-pddl":
            yield str(path), _game_id(path.parent.parts), _reader(path.read_bytes)
        elif path.is_file() and path.name.endswith((".jsonl", ".jsonl.xz", ".zip")):
            yield from _from_file(path)


def _from_file(path: Path) -> Iterator[Raw]:
    if path.name == "game.tw-pddl":
        yield str(path), _game_id(path.resolve().parent.parts), _reader(path.read_bytes)
    elif path.name.endswith(".zip"):
        yield from _from_zip(path)
    elif path.name.endswith(".jsonl.xz"):
        with lzma.open(path, "rb") as file:
            yield from _from_lines(str(path), file)
    elif path.name.endswith(".jsonl"):
        with open(path, "rb") as file:
            yield from _from_lines(str(path), file)
    else:
        raise DataError(f"{path}: neither a game.tw-pddl nor a .zip, .jsonl or .jsonl.xz of games")


def _from_zip(path: Path) -> Iterator[Raw]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: damaged zip file ({error}); get it again") from None
    with archive:
        for name in sorted(archive.namelist()):
            inner = PurePosixPath(name)
            if inner.name == "game.tw-pddl":
                yield f"{path}:{name}", _game_id(inner.parent.parts), _reader(partial(archive.read, name))
            elif name.endswith((".jsonl", ".jsonl.xz")):
                content = archive.read(name)
                plain = io.BytesIO(lzma.decompress(content) if name.endswith(".xz") else content)
                yield from _from_lines(f"{path}:{name}", plain)


def _from_lines(where: str, file: IO[bytes]) -> Iterator[Raw]:
    """Games of a JSON-lines file; a file without games (other data may lie beside them) gives none."""
    number = 0
    try:
        for number, line in enumerate(file, start=1):
            spot = f"{where}:{number}"
            try:
                value = json.loads(line)
            except ValueError as error:
                yield spot, spot, _fail(f"no JSON ({error}); is the file cut off?")
                continue
            if not isinstance(value, dict) or "pddl_problem" not in value:
                if number == 1:
                    return
                yield spot, spot, _fail("no game: it lacks the field 'pddl_problem'")
                continue
            game_id = value.get("id")
            if not isinstance(game_id, str) or game_id.count("/") < 1:
                yield spot, spot, _fail("its field 'id' is not like 'train/<task>/<trial>'")
                continue
            yield spot, game_id, partial(_same, value)
    except (EOFError, lzma.LZMAError) as error:
        yield where, f"{where}:end", _fail(f"damaged after line {number} ({error})")


def _same(value: Any) -> Any:
    return value


def _fail(message: str) -> Callable[[], Any]:
    def read() -> Any:
        raise DataError(message)

    return read


def _reader(content: Callable[[], bytes]) -> Callable[[], Any]:
    def read() -> Any:
        try:
            return json.loads(content())
        except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
            raise DataError(f"it cannot be read ({error})") from None
        except ValueError as error:
            raise DataError(f"it is no JSON ({error}); is the file cut off?") from None

    return read


def _game_id(parts: tuple[str, ...]) -> str:
    """`split/task/trial` from the folders that hold a game; games outside a known split count as `custom`."""
    for i in range(len(parts) - 1, -1, -1):
        if parts[i] in SPLITS or _UNUSED.search(parts[i] + "/"):
            return "/".join(parts[i:])
    return "/".join(("custom", *parts[-2:]))
