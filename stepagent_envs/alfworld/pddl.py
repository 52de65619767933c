"""Reading PDDL: just what the household games use, with errors that say what is wrong.

Everything is lower-cased, as the original's planner does. The engine plays one fixed set of action schemas; a domain is
recognised schema by schema (see `read_domain`), so that a game with other rules is refused instead of played wrongly.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from stepagent_envs.errors import DataError

__all__ = ["Domain", "Expr", "Problem", "parse", "read_domain", "read_problem"]

Expr: TypeAlias = "str | list[Any]"
"""An s-expression: a word or a list of s-expressions."""

_TOKEN = re.compile(r"\(([^()]*)\)|([()]|[^\s()]+)")
"""A list without lists in it (most of a problem is such facts), a parenthesis, or a word."""
_COMMENT = re.compile(r";[^\n]*")


@dataclass(frozen=True)
class Domain:
    """What the rules of a game are made of.

    Attributes:
        predicates: name -> types of the arguments.
        sinks, heaters, coolers: receptacle types that clean, heat and cool. knives: object types that slice.
        has_help: there is a `help` action.
    """

    predicates: dict[str, tuple[str, ...]]
    sinks: tuple[str, ...]
    heaters: tuple[str, ...]
    coolers: tuple[str, ...]
    knives: tuple[str, ...]
    has_help: bool


@dataclass(frozen=True)
class Problem:
    """A game's start and goal: object name -> type, the initial facts in their order, the goal formula."""

    objects: dict[str, str]
    init: list[tuple[str, ...]]
    goal: Expr


def parse(text: str) -> list[Any]:
    """Parse one parenthesised PDDL expression.

    Raises:
        DataError: unbalanced parentheses (a cut file, for example) or no expression at all.
    """
    stack: list[list[Any]] = [[]]
    for flat, token in _TOKEN.findall(_COMMENT.sub("", text).lower()):
        if not token:
            stack[-1].append(flat.split())
        elif token == "(":
            stack.append([])
        elif token == ")":
            if len(stack) < 2:
                raise DataError("PDDL with one closing parenthesis too many")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    if len(stack) > 1:
        raise DataError(f"PDDL that ends inside {len(stack) - 1} open parentheses (is the file cut off?)")
    if len(stack[0]) != 1 or not isinstance(stack[0][0], list):
        raise DataError("PDDL that is not one (define …) expression")
    return stack[0][0]


def _typed(words: list[Any], what: str) -> list[tuple[str, str]]:
    """`a b - t c - u` -> [(a, t), (b, t), (c, u)]; untyped names get the type "object"."""
    pairs: list[tuple[str, str]] = []
    pending: list[str] = []
    i = 0
    while i < len(words):
        word = words[i]
        if not isinstance(word, str):
            raise DataError(f"PDDL {what} with a nested list where a name should be")
        if word == "-":
            kind = words[i + 1] if i + 1 < len(words) else None
            if not isinstance(kind, str):
                raise DataError(f"PDDL {what} without a type after '-'")
            pairs += [(name, kind) for name in pending]
            pending = []
            i += 2
        else:
            pending.append(word)
            i += 1
    return pairs + [(name, "object") for name in pending]


def _sections(text: str, what: str) -> list[list[Any]]:
    expr = parse(text)
    if not expr or expr[0] != "define":
        raise DataError(f"PDDL {what} that does not start with (define")
    return [part for part in expr[1:] if isinstance(part, list) and part]


_SCHEMAS = {
    "look": "6683ee607d8df69f",
    "inventory": "bb6683f823aa2282",
    "examinereceptacle": "f8c0f2a2f4df5f6e",
    "examineobject": "4a0db9ec859b5eae",
    "gotolocation": "a6fd58aa1bac6894",
    "openobject": "315cfd49de6d593d",
    "closeobject": "57353ea3d7ebdea6",
    "pickupobject": "a9b5f3d05bf44a31",
    "putobject": "904f4a4a380c895d",
    "cleanobject": "137e9044eaa5c893",
    "heatobject": "45b2391649b07730",
    "coolobject": "addb2d1ecb708e2e",
    "toggleobject": "648168eabada7bd7",
    "sliceobject": "080994caf14d77e4",
    "help": "19b42d4b2c34186f",
}
"""Action -> first 16 hex digits of the SHA-256 of its schema, the chosen types left out (see `_schema`)."""


def _schema(action: list[Any]) -> tuple[str, tuple[str, ...]]:
    """The digest of an action and the types that its `(or (receptacleType ?r X) …)` names."""
    chosen: list[str] = []

    def strip(expr: Any) -> Any:
        if not isinstance(expr, list):
            return expr
        if (
            expr
            and expr[0] == "or"
            and all(isinstance(e, list) and len(e) == 3 and e[0] in ("receptacletype", "objecttype") for e in expr[1:])
        ):
            chosen.extend(e[2] for e in expr[1:])
            return ["or", sorted({f"{e[0]} {e[1]}" for e in expr[1:]})]
        if expr and expr[0] == "increase":
            return "cost"
        return [strip(e) for e in expr]

    return hashlib.sha256(repr(strip(action)).encode()).hexdigest()[:16], tuple(chosen)


def read_domain(text: str) -> Domain:
    """Read a domain and check that every action is the one that the engine plays.

    Raises:
        DataError: an unknown action, or a known one with another precondition or effect.
    """
    predicates: dict[str, tuple[str, ...]] = {}
    chosen: dict[str, tuple[str, ...]] = {}
    for part in _sections(text, "domain"):
        if part[0] == ":predicates":
            for predicate in part[1:]:
                predicates[predicate[0]] = tuple(kind for _, kind in _typed(predicate[1:], "predicate"))
        elif part[0] == ":action":
            name = part[1]
            digest, types = _schema(part)
            if name not in _SCHEMAS:
                raise DataError(f"the domain has an action {name!r} that this engine does not know")
            if digest != _SCHEMAS[name]:
                raise DataError(f"the domain's action {name!r} is not the one that this engine plays")
            chosen[name] = types
    missing = sorted(set(_SCHEMAS) - {"help"} - set(chosen))
    if missing:
        raise DataError(f"the domain lacks the action {missing[0]!r}")
    return Domain(
        predicates=predicates,
        sinks=chosen["cleanobject"],
        heaters=chosen["heatobject"],
        coolers=chosen["coolobject"],
        knives=chosen["sliceobject"],
        has_help="help" in chosen,
    )


def read_problem(text: str, domain: Domain) -> Problem:
    """Read a problem and check every initial fact against the domain's predicates and the declared objects.

    Raises:
        DataError: a missing section, an unknown predicate or object, or a fact of the wrong arity or type.
    """
    sections = {part[0]: part[1:] for part in _sections(text, "problem")}
    for name in (":objects", ":init", ":goal"):
        if name not in sections:
            raise DataError(f"the problem has no {name} section")
    objects = dict(_typed(sections[":objects"], "objects"))
    init: list[tuple[str, ...]] = []
    right: set[tuple[str | None, ...]] = set()
    for fact in sections[":init"]:
        if not isinstance(fact, list) or not fact:
            raise DataError(f"the problem's initial state holds {fact!r}, which is no fact")
        if fact[0] == "=":
            continue
        try:
            kinds = (fact[0], *[objects.get(word) for word in fact[1:]])
            known = kinds in right
        except TypeError:
            raise DataError(f"the problem's initial state holds {fact!r}, which is no fact") from None
        if not known:
            _check_fact(fact, objects, domain)
            right.add(kinds)
        init.append(tuple(fact))
    if len(sections[":goal"]) != 1:
        raise DataError("the problem's goal is not one formula")
    return Problem(objects, init, sections[":goal"][0])


def _check_fact(fact: list[str], objects: dict[str, str], domain: Domain) -> None:
    kinds = domain.predicates.get(fact[0])
    if kinds is None:
        raise DataError(f"the problem uses the unknown predicate {fact[0]!r}")
    if len(kinds) != len(fact) - 1:
        raise DataError(f"the problem gives {fact[0]!r} {len(fact) - 1} arguments instead of {len(kinds)}")
    for word, kind in zip(fact[1:], kinds, strict=True):
        if word not in objects:
            raise DataError(f"the problem's fact ({' '.join(fact)}) names {word!r}, which is not among its objects")
        if objects[word] != kind:
            raise DataError(
                f"the problem's fact ({' '.join(fact)}) has {word!r} of type {objects[word]!r}, not {kind!r}"
            )
