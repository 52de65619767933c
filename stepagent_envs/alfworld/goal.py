"""Goals: existential formulas over objects and receptacles, compiled to candidate lists that masks can test.

A goal splits into independent parts. Each part asks for at most one receptacle (perhaps the agent must stand at it) and
for objects that are in it, held, or in some condition, perhaps different from one another. All official goals are of
this form; any other is refused by name.
"""

from __future__ import annotations

from typing import Any

from stepagent_envs.alfworld.grammar import FLAGS
from stepagent_envs.alfworld.pddl import Expr
from stepagent_envs.errors import DataError

__all__ = ["TASK_TYPES", "compile_goal", "flatten", "task_type"]

TASK_TYPES = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
"""The six kinds of task, under their official names and in their official order."""

_STATIC = ("pickupable", "cleanable", "heatable", "coolable", "toggleable", "sliceable", "isreceptacleobject")
_CHANGING = ("isclean", "ishot", "iscool", "issliced", "istoggled")

Literal = tuple[str, ...]


def flatten(goal: Expr) -> tuple[dict[str, str], list[Literal]]:
    """A formula of `and` and `exists` as (variable -> type, literals); `(not (= a b))` becomes ("differ", a, b)."""
    variables: dict[str, str] = {}
    literals: list[Literal] = []

    def walk(expr: Expr) -> None:
        if not isinstance(expr, list) or not expr:
            raise DataError(f"the goal holds {expr!r}, which is no formula")
        head = expr[0]
        if head == "and":
            for part in expr[1:]:
                walk(part)
        elif head == "exists" and len(expr) == 3 and isinstance(expr[1], list):
            words = expr[1]
            if len(words) % 3 or any(words[i + 1] != "-" for i in range(0, len(words), 3)):
                raise DataError("the goal has an (exists …) whose variables are not written as ?name - type")
            for i in range(0, len(words), 3):
                if variables.setdefault(words[i], words[i + 2]) != words[i + 2]:
                    raise DataError(f"the goal uses the variable {words[i]} with two types")
            walk(expr[2])
        elif head == "not" and isinstance(expr[1], list) and expr[1][0] == "=" and len(expr[1]) == 3:
            literals.append(("differ", expr[1][1], expr[1][2]))
        elif all(isinstance(word, str) for word in expr) and head not in ("not", "or", "forall", "imply", "="):
            literals.append(tuple(expr))
        else:
            raise DataError(f"the goal uses ({head} …), which this engine does not know")

    walk(goal)
    return variables, literals


def task_type(goal: Expr) -> str:
    """Which of the six kinds of task a goal is; raises `DataError` for another."""
    _, literals = flatten(goal)
    names = {literal[0] for literal in literals}
    if "istoggled" in names:
        return "look_at_obj_in_light"
    for name, kind in (("isclean", 2), ("ishot", 3), ("iscool", 4), ("differ", 5)):
        if name in names:
            return TASK_TYPES[kind]
    if "inreceptacle" in names:
        return TASK_TYPES[0]
    raise DataError("the goal is none of the six kinds of task")


def compile_goal(
    goal: Expr,
    recs: list[str],
    rec_type: dict[str, str],
    objs: list[str],
    obj_type: dict[str, str],
    flags: dict[str, int],
) -> list[dict[str, Any]]:
    """Compile a goal for the receptacles and objects of a game.

    Returns:
        The parts: `recs` (indices of possible receptacles, or None where the part needs none), `here` (the agent must
        stand at it), `objs` (for each object variable: [possible objects, condition bits, is in the receptacle, is
        held]) and `differ` (pairs of positions in `objs`).
    """
    variables, literals = flatten(goal)
    for literal in literals:
        for word in literal[1:]:
            if word.startswith("?") and word not in variables:
                raise DataError(f"the goal uses the variable {word} without (exists …)")
    parts = []
    for group in _groups(variables, literals):
        parts.append(_part(group, variables, literals, recs, rec_type, objs, obj_type, flags))
    return [part for part in parts if part["objs"] or part["recs"] is not None]


def _groups(variables: dict[str, str], literals: list[Literal]) -> list[list[str]]:
    """Variables that literals connect; agents connect nothing, there is only one."""
    parent = {name: name for name, kind in variables.items() if kind != "agent"}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for literal in literals:
        linked = [word for word in literal[1:] if word in parent]
        for other in linked[1:]:
            parent[root(other)] = root(linked[0])
    groups: dict[str, list[str]] = {}
    for name in parent:
        groups.setdefault(root(name), []).append(name)
    return list(groups.values())


def _part(
    group: list[str],
    variables: dict[str, str],
    literals: list[Literal],
    recs: list[str],
    rec_type: dict[str, str],
    objs: list[str],
    obj_type: dict[str, str],
    flags: dict[str, int],
) -> dict[str, Any]:
    mine = [literal for literal in literals if any(word in group for word in literal[1:])]
    places = [name for name in group if variables[name] == "receptacle"]
    things = [name for name in group if variables[name] == "object"]
    if len(places) > 1:
        raise DataError("the goal relates two receptacles to one another, which this engine does not know")
    rec_ok = list(range(len(recs)))
    allowed = {name: list(range(len(objs))) for name in things}
    wanted = dict.fromkeys(things, 0)
    inside, held = set[str](), set[str]()
    differ: list[list[int]] = []
    spots: set[tuple[str, str]] = set()
    for literal in mine:
        name, args = literal[0], literal[1:]
        first = args[0]
        if name == "differ":
            differ.append([things.index(args[0]), things.index(args[1])])
        elif name == "receptacletype":
            rec_ok = [r for r in rec_ok if rec_type.get(recs[r]) == args[1]]
        elif name == "objecttype":
            allowed[first] = [o for o in allowed[first] if obj_type.get(objs[o]) == args[1]]
        elif name in _STATIC:
            allowed[first] = [o for o in allowed[first] if flags[objs[o]] & FLAGS[name]]
        elif name in _CHANGING:
            wanted[first] |= FLAGS[name]
        elif name == "inreceptacle":
            inside.add(first)
        elif name == "holds":
            held.add(args[1])
        elif name in ("receptacleatlocation", "atlocation"):
            spots.add((name, args[1]))
        else:
            raise DataError(f"the goal uses {name!r}, which this engine does not know")
    here = {place for kind, place in spots if kind == "receptacleatlocation"}
    if {place for kind, place in spots if kind == "atlocation"} - here:
        raise DataError("the goal names a place where nothing stands, which this engine does not know")
    return {
        "recs": rec_ok if places else None,
        "here": any(("atlocation", place) in spots for place in here),
        "objs": [[allowed[name], wanted[name], int(name in inside), int(name in held)] for name in things],
        "differ": differ,
    }
