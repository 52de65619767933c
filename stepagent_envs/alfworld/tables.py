"""Frequencies of the official train games: what stands in which room, what lies where, what is asked for.

`tables.json` beside this file was made by `measure` from the 3,554 train games. The generator draws from it, so that
built-in games are like official ones; the explorer searches by it, as someone who has seen the train games would.
Nothing in it comes from the validation splits.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["ROOMS", "load", "measure", "room_of", "room_of_scene"]

ROOMS = ("kitchen", "livingroom", "bedroom", "bathroom")
"""The kinds of room, in the order of the scene numbers (1-30, 201-230, 301-330, 401-430)."""


def room_of_scene(scene: int) -> str | None:
    """The kind of room of an official scene number, or None for a number out of range."""
    for room, low in zip(ROOMS, (1, 201, 301, 401), strict=True):
        if low <= scene < low + 30:
            return room
    return None


def room_of(receptacles: Iterable[str]) -> str:
    """The kind of room that a set of receptacle names (or types) speaks for."""
    names = {name.removesuffix("type") for name in receptacles}
    for sign, room in (("fridge", "kitchen"), ("toilet", "bathroom"), ("bed", "bedroom")):
        if sign in names:
            return room
    return "livingroom"


@cache
def load() -> dict[str, Any]:
    """The tables (see `measure`)."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("tables.json").read_text(encoding="utf-8"))
    return found


def measure(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Count over compiled games, each with its `scene` number.

    Returns:
        fits: receptacle type -> object types that it can hold.
        rooms: for each kind of room: games; recs: receptacle -> {number of them: scenes}; objs: object -> [property
        bits, {number of them: games}, {receptacle: times it lay there}]; tasks: [kind, object, place or lamp, games];
        rates: object -> {receptacle: chance that one such receptacle holds it, given that the room has the object}.
        share: receptacle -> chance that the next of its kind stands at the same place (toaster and coffee machine: at
        a countertop's).
        double: how often what lies on a stove burner or in a coffee machine also counts as lying on its neighbour.
    """
    counter = _Counter()
    for record in records:
        counter.add(record)
    return counter.result()


class _Counter:
    def __init__(self) -> None:
        self.games: Counter[str] = Counter()
        self.scenes: dict[str, dict[int, Counter[str]]] = defaultdict(dict)
        self.counts: dict[str, dict[str, Counter[int]]] = defaultdict(lambda: defaultdict(Counter))
        self.places: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self.seats: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self.hits: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self.flags: dict[str, Counter[int]] = defaultdict(Counter)
        self.tasks: dict[str, Counter[tuple[str, str, str]]] = defaultdict(Counter)
        self.fits: dict[str, set[str]] = defaultdict(set)
        self.share: dict[str, Counter[bool]] = defaultdict(Counter)
        self.double: dict[str, Counter[bool]] = defaultdict(Counter)

    def add(self, record: Mapping[str, Any]) -> None:
        room = room_of_scene(record["scene"])
        if room is None:
            return
        recs, objs, inside = record["recs"], record["objs"], record["inside"]
        self.games[room] += 1
        self.scenes[room][record["scene"]] = Counter(rec[0] for rec in recs)
        for name, count in Counter(obj[0] for obj in objs).items():
            self.counts[room][name][count] += 1
        for obj in objs:
            self.flags[obj[0]][obj[3]] += 1
        kinds = [{objs[o][0] for o in held} for held in inside]
        present = set().union(*kinds) if kinds else set()
        for r, rec in enumerate(recs):
            for o in inside[r]:
                self.places[room][objs[o][0]][rec[0]] += 1
            for name in present:
                self.seats[room][name][rec[0]] += 1
                self.hits[room][name][rec[0]] += name in kinds[r]
        for kind, types in record["fits"].items():
            self.fits[kind].update(types)
        self.tasks[room][(record["kind"], *record["asked"])] += 1
        self._neighbours(recs, inside)

    def _neighbours(self, recs: list[Any], inside: list[list[int]]) -> None:
        by_place: dict[int, list[int]] = defaultdict(list)
        for r, rec in enumerate(recs):
            by_place[rec[3]].append(r)
        for name in ("cabinet", "drawer", "shelf", "stoveburner"):
            mine = [rec[3] for rec in recs if rec[0] == name]
            places = len(set(mine))
            self.share[name][True] += len(mine) - places
            self.share[name][False] += max(places - 1, 0)
        for r, rec in enumerate(recs):
            mates = [m for m in by_place[rec[3]] if m != r]
            if rec[0] in ("toaster", "coffeemachine"):
                self.share[rec[0]][any(recs[m][0] == "countertop" for m in mates)] += 1
            if rec[0] in ("stoveburner", "coffeemachine"):
                want = "stoveburner" if rec[0] == "stoveburner" else "countertop"
                near = [m for m in mates if recs[m][0] == want]
                for o in inside[r] if near else ():
                    self.double[rec[0]][any(o in inside[m] for m in near)] += 1

    def result(self) -> dict[str, Any]:
        def share(c: Counter[bool]) -> float:
            return round(c[True] / max(c[True] + c[False], 1), 4)

        rooms: dict[str, Any] = {}
        for room in ROOMS:
            games, scenes = self.games[room], list(self.scenes[room].values())
            names = sorted({name for scene in scenes for name in scene})
            objs = {}
            for name, counts in sorted(self.counts[room].items()):
                none = games - sum(counts.values())
                spread = {str(k): n for k, n in sorted({**counts, **({0: none} if none else {})}.items())}
                objs[name] = [self.flags[name].most_common(1)[0][0], spread, _sorted(self.places[room][name])]
            rooms[room] = {
                "games": games,
                "recs": {name: _sorted(Counter(str(scene[name]) for scene in scenes)) for name in names},
                "objs": objs,
                "tasks": [[*task, n] for task, n in sorted(self.tasks[room].items())],
                "rates": {
                    name: {
                        rec: round(self.hits[room][name][rec] / n, 4)
                        for rec, n in sorted(seats.items())
                        if self.hits[room][name][rec]
                    }
                    for name, seats in sorted(self.seats[room].items())
                },
            }
        return {
            "fits": {kind: sorted(types) for kind, types in sorted(self.fits.items())},
            "rooms": rooms,
            "share": {name: share(c) for name, c in sorted(self.share.items())},
            "double": {name: share(c) for name, c in sorted(self.double.items())},
        }


def _sorted(counter: Counter[str]) -> dict[str, int]:
    return {name: counter[name] for name in sorted(counter)}
