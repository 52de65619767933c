"""Built-in games: households drawn from the frequencies of the official train games, without end and for ever the same.

A room plan says which receptacles stand where; a game puts objects into it and asks for something. Train, dev and
valid_seen share the train plans; valid_unseen has plans of its own, as in the original. Every draw comes from a
generator seeded with the SHA-256 of the game's name, and only its `random()` is used, which Python keeps the same in
every version.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from stepagent_envs.alfworld import tables
from stepagent_envs.alfworld.goal import compile_goal
from stepagent_envs.alfworld.grammar import FLAGS, Wording
from stepagent_envs.alfworld.pddl import Expr

__all__ = ["DATA_SET", "SPLITS", "WORDING", "generate", "goal_formula", "plan"]

DATA_SET = "builtin-1"
"""Name and version of the built-in games: another rule, table or draw would need another name."""

SPLITS = {"train": 2000, "dev": 100, "valid_seen": 140, "valid_unseen": 134}
"""Frozen numbers of games."""

TRAIN_PLANS, UNSEEN_PLANS = 27, 5
"""Room plans of each kind of room; the original has 27 and 1."""

MAX_SEARCH = 30
"""Games whose things take more actions than this to find by looking in the likeliest places first are drawn again."""

T = TypeVar("T")

WORDING = Wording(
    goto=("go to ", "", ""),
    open=("open ", "", ""),
    close=("close ", "", ""),
    take=("take ", " from ", ""),
    put=("put ", " in/on ", ""),
    clean=("clean ", " with ", ""),
    heat=("heat ", " with ", ""),
    cool=("cool ", " with ", ""),
    slice=("slice ", " with ", ""),
    use=("use ", "", ""),
    examine=("examine ", "", ""),
    look="look",
    inventory="inventory",
    help=None,
    intro="-= Welcome to TextWorld, ALFRED! =-\n\n{look}\n\n{task}",
    said_goto="You arrive at {loc}. {seen}",
    said_open="You open the {r}. {seen}",
    said_close="You close the {r}.",
    said_take="You pick up the {o} from the {r}.",
    said_put="You put the {o} in/on the {r}.",
    said_clean="You clean the {o} using the {r}.",
    said_heat="You heat the {o} using the {r}.",
    said_cool="You cool the {o} using the {r}.",
    said_slice="You sliced the {o} with the {k}.",
    said_use="You turn on the {o}.",
    said_inventory="You are carrying: {list}.",
    said_inventory_empty="You are not carrying anything.",
    said_help=None,
    seen_open="The {r} is open. In it, you see {list}.",
    seen_closed="The {r} is closed.",
    seen_on="On the {r}, you see {list}.",
    object_rules=(
        (FLAGS["isreceptacleobject"], "This is a normal {o}. In it, you see {list}."),
        (FLAGS["isclean"] | FLAGS["ishot"] | FLAGS["issliced"], "This is a hot and clean sliced {o}."),
        (FLAGS["isclean"] | FLAGS["iscool"] | FLAGS["issliced"], "This is a cool and clean sliced {o}."),
        (FLAGS["isclean"] | FLAGS["issliced"], "This is a clean sliced {o}."),
        (FLAGS["ishot"] | FLAGS["issliced"], "This is a hot sliced {o}."),
        (FLAGS["iscool"] | FLAGS["issliced"], "This is a cool sliced {o}."),
        (FLAGS["isclean"] | FLAGS["ishot"], "This is a hot and clean {o}."),
        (FLAGS["isclean"] | FLAGS["iscool"], "This is a cool and clean {o}."),
        (FLAGS["ishot"], "This is a hot {o}."),
        (FLAGS["isclean"], "This is a clean {o}."),
        (FLAGS["iscool"], "This is a cold {o}."),
        (FLAGS["toggleable"] | FLAGS["istoggled"], "This {o} is on."),
        (FLAGS["sliceable"] | FLAGS["issliced"], "This is a sliced {o}."),
        (0, "There's nothing special about {o}."),
    ),
    look_here="You are facing the {here}. Next to it, you see {floor}.",
    look_middle="You are in the middle of a room. Looking quickly around you, you see {all}.",
    item="a {}",
    comma=", ",
    last_comma=", and ",
    nothing="nothing",
)
"""The wording of the official games of version 2.1.1."""

_SENTENCES: dict[str, tuple[str, str]] = {
    "pick_and_place_simple": ("put a {o} in {t}.", "put some {o} on {t}."),
    "look_at_obj_in_light": ("look at {o} under the {t}.", "examine the {o} with the {t}."),
    "pick_clean_then_place_in_recep": ("put a clean {o} in {t}.", "clean some {o} and put it in {t}."),
    "pick_heat_then_place_in_recep": ("put a hot {o} in {t}.", "heat some {o} and put it in {t}."),
    "pick_cool_then_place_in_recep": ("put a cool {o} in {t}.", "cool some {o} and put it in {t}."),
    "pick_two_obj_and_place": ("put two {o} in {t}.", "find two {o} and put them in {t}."),
}

_TREATED = {
    "pick_clean_then_place_in_recep": ("cleanable", "isclean"),
    "pick_heat_then_place_in_recep": ("heatable", "ishot"),
    "pick_cool_then_place_in_recep": ("coolable", "iscool"),
}

_OPENABLE = ("cabinet", "drawer", "fridge", "microwave", "safe")


class _Dice:
    """Draws from the name of what is drawn."""

    def __init__(self, name: str) -> None:
        seed = int.from_bytes(hashlib.sha256(f"{DATA_SET}:{name}".encode()).digest(), "big")
        self.random = random.Random(seed).random

    def below(self, n: int) -> int:
        return int(self.random() * n)

    def one(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        left = self.random() * sum(weights.values())
        chosen = None
        for item, weight in weights.items():
            chosen = item
            left -= weight
            if left < 0:
                break
        assert chosen is not None
        return chosen

    def shuffled(self, items: Sequence[T]) -> list[T]:
        result = list(items)
        for i in range(len(result) - 1, 0, -1):
            j = self.below(i + 1)
            result[i], result[j] = result[j], result[i]
        return result


def goal_formula(kind: str, obj: str, target: str) -> Expr:
    """The PDDL goal of a task: `obj` and `target` are PDDL types; the target is a lamp's where one looks."""
    if kind == "look_at_obj_in_light":
        lamp = ["and", ["objecttype", "?ot", target], ["toggleable", "?ot"], ["istoggled", "?ot"]]
        lamp += [["receptacleatlocation", "?r", "?l"], ["atlocation", "?a", "?l"], ["inreceptacle", "?ot", "?r"]]
        in_hand = ["and", ["objecttype", "?o", obj], ["holds", "?a", "?o"]]
        spot = ["?ot", "-", "object", "?r", "-", "receptacle", "?a", "-", "agent", "?l", "-", "location"]
        return ["and", ["exists", spot, lamp], ["exists", ["?o", "-", "object", "?a", "-", "agent"], in_hand]]
    first: list[Any] = [
        "and",
        ["inreceptacle", "?o", "?r"],
        ["objecttype", "?o", obj],
        ["receptacletype", "?r", target],
    ]
    first += [[name, "?o"] for name in _TREATED.get(kind, ())]
    if kind == "pick_two_obj_and_place":
        second = ["and", ["not", ["=", "?o", "?o2"]], ["objecttype", "?o2", obj], ["inreceptacle", "?o2", "?r"]]
        first.append(["exists", ["?o2", "-", "object"], second])
    return ["exists", ["?r", "-", "receptacle"], ["exists", ["?o", "-", "object"], first]]


@lru_cache(maxsize=512)
def plan(room: str, name: str) -> tuple[tuple[str, ...], tuple[int, ...], int]:
    """A room plan: receptacle names in the order of lists, the place of each, and the number of places.

    Place numbers are those of the texts ("loc 7"), the last one is where the agent starts.
    """
    table = tables.load()
    dice = _Dice(f"plan/{room}/{name}")
    counts = {rec: int(dice.weighted(spread)) for rec, spread in table["rooms"][room]["recs"].items()}
    if room == "kitchen":  # every official kitchen has them, and every task of a kitchen may need them
        for rec in ("fridge", "microwave", "sinkbasin", "countertop"):
            counts[rec] = max(counts[rec], 1)
    names = [rec for rec in sorted(counts) for _ in range(counts[rec])]
    places: list[int] = []
    used = 0
    for i, rec in enumerate(names):
        first = i == 0 or names[i - 1] != rec
        if rec in ("toaster", "coffeemachine") and counts.get("countertop") and dice.random() < table["share"][rec]:
            places.append(-1)
        elif not first and dice.random() < table["share"].get(rec, 0.0):
            places.append(places[-1])
        else:
            places.append(used)
            used += 1
    tops = [place for place, rec in zip(places, names, strict=True) if rec == "countertop"]
    places = [dice.one(tops) if place < 0 else place for place in places]
    order = dice.shuffled(range(used + 1 + dice.below(4)))  # windows and the like have places of their own
    return tuple(names), tuple(order[place] for place in places), len(order)


def generate(split: str, index: int) -> dict[str, Any]:
    """The record of a built-in game (see `compiler.compile_problem`), with `room` and `plan` beside.

    `index` may exceed the frozen number of a split: there is no last game.
    """
    for attempt in range(1000):
        record = _attempt(split, _Dice(f"{split}/{index}" if not attempt else f"{split}/{index}/{attempt}"))
        if record is not None:
            return record
    raise AssertionError(f"no game for {split}/{index}")


def _attempt(split: str, dice: _Dice) -> dict[str, Any] | None:
    table = tables.load()
    room = dice.weighted({name: table["rooms"][name]["games"] for name in tables.ROOMS})
    unseen = split == "valid_unseen"
    plan_name = f"unseen-{dice.below(UNSEEN_PLANS)}" if unseen else f"train-{dice.below(TRAIN_PLANS)}"
    names, places, locs = plan(room, plan_name)
    here = table["rooms"][room]
    asked = {(k, o, t): n for k, o, t, n in here["tasks"] if t in names or k == "look_at_obj_in_light"}
    kinds: dict[str, float] = {}
    for (kind, _, _), n in asked.items():
        kinds[kind] = kinds.get(kind, 0) + n
    kind = dice.weighted(kinds)
    _, wanted, target = task = dice.weighted(
        {key: math.isqrt(n * 10_000) for key, n in asked.items() if key[0] == kind}
    )
    objects = _objects(dice, here, names, task)
    if objects is None:
        return None
    inside: list[list[int]] = [[] for _ in names]
    for o, (_, r) in enumerate(objects):
        inside[r].append(o)
        for mate in _doubles(dice, r, names, places, table["double"]):
            inside[mate].append(o)
    sentence = dice.one(_SENTENCES[kind]).format(o=wanted, t=target)
    if _search_cost(here, names, objects, task) > MAX_SEARCH:
        return None
    fits = {rec + "type": set(table["fits"].get(rec + "type", ())) for rec in set(names)}
    homes = set().union(*fits.values())
    movable = [~0 if name + "type" in homes else ~FLAGS["pickupable"] for name, _ in objects]
    flags = [here["objs"][name][0] & mask for (name, _), mask in zip(objects, movable, strict=True)]
    recs = [
        [name, number, name + "type", place, int(name in _OPENABLE), 0]
        for name, number, place in _number(names, places)
    ]
    ids = [f"{name} {i}" for i, (name, _) in enumerate(objects)]
    rec_ids = [f"{name} {i}" for i, name in enumerate(names)]
    obj_types = {i: name + "type" for i, (name, _) in zip(ids, objects, strict=True)}
    rec_types = {i: name + "type" for i, name in zip(rec_ids, names, strict=True)}
    flag_of = dict(zip(ids, flags, strict=True))
    goal = goal_formula(kind, wanted + "type", target + "type")
    present = {name + "type" for name, _ in objects}
    return {
        "task": f"Your task is to: {sentence}",
        "kind": kind,
        "locs": locs,
        "start": next(place for place in range(locs) if place not in places),
        "recs": recs,
        "objs": [
            [name, number, name + "type", bits]
            for (name, number, _), bits in zip(_number([name for name, _ in objects], flags), flags, strict=True)
        ],
        "inside": inside,
        "at": [],
        "inner": [],
        "held": -1,
        "fits": {rec: sorted(types & present) for rec, types in sorted(fits.items()) if types & present},
        "goal": compile_goal(goal, rec_ids, rec_types, ids, obj_types, flag_of),
        "sinks": ["sinktype", "sinkbasintype"],
        "heaters": ["microwavetype"],
        "coolers": ["fridgetype"],
        "knives": ["knifetype", "butterknifetype"],
        "room": room,
        "plan": plan_name,
        "asked": [wanted, target],
    }


def _number(names: Sequence[str], places: Sequence[int]) -> list[tuple[str, int, int]]:
    left: dict[str, int] = {}
    for name in names:
        left[name] = left.get(name, 0) + 1
    result = []
    for name, place in zip(names, places, strict=True):
        result.append((name, left[name], place))
        left[name] -= 1
    return result


def _objects(
    dice: _Dice, here: Mapping[str, Any], names: tuple[str, ...], task: tuple[str, str, str]
) -> list[tuple[str, int]] | None:
    """(name, receptacle) of every object in the order of lists; None if the task cannot be set up with this draw."""
    kind, wanted, target = task
    least = {wanted: 2 if kind == "pick_two_obj_and_place" else 1}
    if kind == "look_at_obj_in_light":
        least[target] = 1
    found: list[tuple[str, int]] = []
    for name, (_, spread, spots) in here["objs"].items():
        count = max(int(dice.weighted(spread)), least.get(name, 0))
        open_spots = {spot: n for spot, n in spots.items() if spot in names}
        in_target = 0
        placed = []
        for _ in range(count if open_spots else 0):
            spot = dice.weighted(open_spots)
            if name == wanted and spot == target:
                in_target += 1
            placed.append((name, dice.one([r for r, rec in enumerate(names) if rec == spot])))
        if len(placed) < least.get(name, 0):
            return None
        allowed = {"pick_and_place_simple": 0, "pick_two_obj_and_place": 1}.get(kind, count)
        if name == wanted and in_target > allowed:
            return None
        found += placed
    return found


def _search_cost(
    here: Mapping[str, Any], names: tuple[str, ...], objects: list[tuple[str, int]], task: tuple[str, str, str]
) -> int:
    """Actions spent looking into receptacles, likeliest first, until everything that the task needs has been seen."""
    kind, wanted, target = task
    needs = [(wanted, 2 if kind == "pick_two_obj_and_place" else 1)]
    if kind == "look_at_obj_in_light":
        needs.append((target, 1))
    total = 0
    looked: set[int] = set()
    for name, count in needs:
        rates, spots = here["rates"][name], [r for thing, r in objects if thing == name]
        cost = [2 if rec in _OPENABLE else 1 for rec in names]
        order = sorted(range(len(names)), key=lambda r: (-rates.get(names[r], 0.0) / cost[r], r))
        for r in order:
            if sum(spot in looked for spot in spots) >= count:
                break
            total += cost[r] if r not in looked else 0
            looked.add(r)
    return total


def _doubles(
    dice: _Dice, r: int, names: tuple[str, ...], places: tuple[int, ...], double: Mapping[str, float]
) -> list[int]:
    """Further receptacles that an object in `r` counts as lying in: some official objects lie in two at once."""
    name = names[r]
    if name not in double or dice.random() >= double[name]:
        return []
    near = "stoveburner" if name == "stoveburner" else "countertop"
    return [m for m, rec in enumerate(names) if rec == near and m != r and places[m] == places[r]][:1]
