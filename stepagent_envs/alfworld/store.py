"""Compiled games on disk: one file that opens in milliseconds and is shared by every worker that maps it.

Layout: a magic line; the length of the header (8 bytes, little-endian); the header, zlib-compressed JSON with what all
games share (wordings, rules) and, for each game, its id, kind, room, offset and length; then every game's record as
zlib-compressed JSON. Nothing is unpickled, nothing is unpacked before it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stepagent_envs.alfworld.engine import Game
from stepagent_envs.alfworld.grammar import Wording
from stepagent_envs.errors import DataError

__all__ = ["STORE_NAME", "Store", "write_store"]

STORE_NAME = "games.bin"
_MAGIC = b"StepAgent ALFWorld games, format 1\n"
_SHARED = ("wording", "rules")


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def write_store(path: Path, games: Iterable[tuple[str, str | None, dict[str, Any]]]) -> tuple[str, dict[str, int]]:
    """Write (id, room, record) triples, ids like `split/task/trial`; sorted by id within a split.

    Returns:
        Hash of the content (hex; of ids and records alone, not of how they are packed) and number of games per split.
    """
    shared: dict[str, list[Any]] = {name: [] for name in _SHARED}
    known: dict[bytes, int] = {}
    rows, blobs, offset = [], [], 0
    digest = hashlib.sha256()
    counts: dict[str, int] = {}
    for game_id, room, record in sorted(games, key=lambda game: game[0]):
        digest.update(game_id.encode() + b"\n" + _dump(record) + b"\n")
        slim = dict(record)
        rules = {name: slim.pop(name) for name in ("fits", "sinks", "heaters", "coolers", "knives")}
        for name, value in (("wording", slim.pop("wording")), ("rules", rules)):
            key = name.encode() + _dump(value)
            if key not in known:
                known[key] = len(shared[name])
                shared[name].append(value)
            slim[name] = known[key]
        blob = zlib.compress(_dump(slim), 9)
        rows.append([game_id, record["kind"], room, offset, len(blob)])
        blobs.append(blob)
        offset += len(blob)
        split = game_id.partition("/")[0]
        counts[split] = counts.get(split, 0) + 1
    content_hash = digest.hexdigest()
    header = zlib.compress(_dump({"hash": content_hash, "games": rows, **shared}), 6)
    with open(path, "wb") as file:
        file.write(_MAGIC + len(header).to_bytes(8, "little") + header)
        file.writelines(blobs)
    return content_hash, counts


class Store:
    """A file of compiled games, mapped into memory.

    Attributes:
        hash: of the content. splits: split -> ids in order. wordings: the wordings that records point to.

    Raises:
        DataError: no such file, or not one of ours, or cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        mend = f"import the data again (`stepagent data import alfworld PATH`), {path} is damaged"
        try:
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; run `stepagent data import alfworld PATH`") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{mend} ({error})") from None
        start = len(_MAGIC) + 8
        if self._map[: len(_MAGIC)] != _MAGIC:
            raise DataError(f"{path}: not a file of compiled ALFWorld games; run `stepagent data import alfworld PATH`")
        self._base = start + int.from_bytes(self._map[len(_MAGIC) : start], "little")
        try:
            header = json.loads(zlib.decompress(self._map[start : self._base]))
            self.hash: str = header["hash"]
            self._rules: list[dict[str, Any]] = header["rules"]
            self.wordings = [Wording.from_json(value) for value in header["wording"]]
            self._rows = {row[0]: row for row in header["games"]}
            last = header["games"][-1]
        except (zlib.error, ValueError, KeyError, IndexError, TypeError):
            raise DataError(mend) from None
        if self._base + last[3] + last[4] > len(self._map):
            raise DataError(f"{mend} (cut off)")
        self.splits: dict[str, list[str]] = {}
        for game_id in self._rows:
            self.splits.setdefault(game_id.partition("/")[0], []).append(game_id)

    def kind(self, game_id: str) -> str:
        """Task type of a game."""
        kind: str = self._rows[game_id][1]
        return kind

    def room(self, game_id: str) -> str | None:
        """Kind of room of a game, where its name tells."""
        room: str | None = self._rows[game_id][2]
        return room

    def record(self, game_id: str) -> dict[str, Any]:
        """The record of a game, the shared rules put back; `wording` is an index."""
        _, _, _, offset, length = self._rows[game_id]
        start = self._base + offset
        try:
            record: dict[str, Any] = json.loads(zlib.decompress(self._map[start : start + length]))
        except (zlib.error, ValueError):
            raise DataError(f"{self.path}: the game {game_id} is damaged; import the data again") from None
        record.update(self._rules[record.pop("rules")])
        return record

    def game(self, game_id: str) -> Game:
        """The game of an id, ready to play."""
        record = self.record(game_id)
        return Game(record, self.wordings[record["wording"]])
