"""Reading a game's own grammar: how its commands are written and what it answers.

A game carries its wording with it (two are in circulation, "put X in/on Y" and "move X to Y"), so nothing of it is
built in here. What is fixed is the shape of the rules: which facts decide between answers. A grammar of another shape
is refused with the name of the rule, never played approximately.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from stepagent_envs.errors import DataError

__all__ = ["FLAGS", "Wording", "read_grammar"]

FLAGS = {
    name: 1 << i
    for i, name in enumerate(
        (
            "pickupable",
            "cleanable",
            "heatable",
            "coolable",
            "toggleable",
            "sliceable",
            "isreceptacleobject",
            "isclean",
            "ishot",
            "iscool",
            "issliced",
            "istoggled",
        )
    )
}
"""Properties of an object as bits, in compiled games and in the conditions of `Wording.object_rules`."""

_BLOCK = re.compile(r'grammar\s*::\s*"""(.*?)"""', re.S)
_ACTION = re.compile(r'action\s+(\w+)\s*\{((?:[^"{}]|"""(?:.*?)"""|"[^"]*")*)\}', re.S)
_FIELD = re.compile(r'(template|feedback)\s*::\s*"([^"]*)"')
_PIECE = re.compile(r"\[\{(?P<list>[^}]*)\}\]|#(?P<rule>[^#]*)#|\{(?P<slot>[^}]*)\}")


@dataclass(frozen=True)
class Wording:
    """How a game speaks. Strings with braces are `str.format` patterns; every command is (before, between, after).

    Attributes:
        goto, open, …: the parts of a command around its slots.
        intro: patterns of the first observation, with {look} and {task}.
        said_goto, said_open: with {r}, {loc} and {seen}; the other `said_…` with {o}, {r} or {k} (the knife).
        seen_open, seen_closed, seen_on: what a receptacle shows, with {r} and {list}.
        object_rules: (property bits that must hold, answer to `examine <object>` with {o}, {list} for its contents).
        look_here: with {here} and {floor}; look_middle: with {all}.
        item: how one thing of a list is named; comma, last_comma, nothing: how lists are joined.
        said_help: the answer to `help`, or None where the game has no such command.
    """

    goto: tuple[str, str, str]
    open: tuple[str, str, str]
    close: tuple[str, str, str]
    take: tuple[str, str, str]
    put: tuple[str, str, str]
    clean: tuple[str, str, str]
    heat: tuple[str, str, str]
    cool: tuple[str, str, str]
    slice: tuple[str, str, str]
    use: tuple[str, str, str]
    examine: tuple[str, str, str]
    look: str
    inventory: str
    help: str | None
    intro: str
    said_goto: str
    said_open: str
    said_close: str
    said_take: str
    said_put: str
    said_clean: str
    said_heat: str
    said_cool: str
    said_slice: str
    said_use: str
    said_inventory: str
    said_inventory_empty: str
    said_help: str | None
    seen_open: str
    seen_closed: str
    seen_on: str
    object_rules: tuple[tuple[int, str], ...]
    look_here: str
    look_middle: str
    item: str
    comma: str
    last_comma: str
    nothing: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Wording:
        """Inverse of `to_json`."""
        names = {f.name for f in fields(cls)}
        if set(value) != names:
            raise DataError(f"a wording with the wrong fields ({sorted(names ^ set(value))[0]!r})")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        values["object_rules"] = tuple((bits, text) for bits, text in value["object_rules"])
        return cls(**values)


class _Grammar:
    """The rules and actions of a grammar text."""

    def __init__(self, text: str) -> None:
        self.rules: dict[str, list[dict[str, str]]] = {}
        self.actions: dict[str, dict[str, str]] = {}
        for block in _BLOCK.findall(text):
            try:
                rules = json.loads(block)
            except ValueError as error:
                raise DataError(f"the grammar holds a block that is no JSON ({error})") from None
            if not isinstance(rules, dict):
                raise DataError("the grammar holds a block that is no JSON object")
            self.rules.update(rules)
        for name, body in _ACTION.findall(text):
            self.actions[name.lower()] = dict(_FIELD.findall(_BLOCK.sub("", body)))

    def alternatives(self, rule: str) -> list[tuple[str, str]]:
        """(condition, right-hand side) of a rule, in order."""
        found = self.rules.get(rule)
        if not isinstance(found, list) or not all(isinstance(r, dict) and isinstance(r.get("rhs"), str) for r in found):
            raise DataError(f"the grammar lacks the rule {rule!r}")
        return [(_spaces(r.get("condition", "")), r["rhs"].replace("\\n", "\n")) for r in found]

    def one(self, rule: str) -> str:
        """The right-hand side of a rule without alternatives."""
        found = self.alternatives(rule)
        if len(found) != 1 or found[0][0]:
            raise DataError(f"the grammar's rule {rule!r} has another shape than this engine knows")
        return found[0][1]

    def feedback(self, action: str) -> str:
        """The answer of an action: the name of a rule in #…#, or a text."""
        text = self.actions.get(action, {}).get("feedback")
        if text is None:
            raise DataError(f"the grammar has no feedback for the action {action!r}")
        return text

    def template(self, action: str) -> str:
        """How the command of an action is written."""
        text = self.actions.get(action, {}).get("template")
        if text is None:
            raise DataError(f"the grammar has no template for the action {action!r}")
        return text


def _spaces(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _pattern(text: str, known: dict[str, str], where: str) -> str:
    """A right-hand side as a `str.format` pattern; `known` maps its symbols to the names of the pattern's fields."""
    parts: list[str] = []
    end = 0
    for match in _PIECE.finditer(text):
        symbol = _spaces(match.group())
        if symbol not in known:
            raise DataError(f"the grammar's rule {where!r} uses {symbol!r}, which this engine does not know")
        parts += [_literal(text[end : match.start()]), "{", known[symbol], "}"]
        end = match.end()
    return "".join([*parts, _literal(text[end:])])


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _command(template: str, action: str, slots: tuple[str, ...]) -> tuple[str, str, str]:
    parts: list[str] = []
    end = 0
    found: list[str] = []
    for match in _PIECE.finditer(template):
        parts.append(template[end : match.start()])
        found.append(_spaces(match.group()))
        end = match.end()
    parts.append(template[end:])
    if tuple(found) != slots or not parts[0].rstrip(" "):
        raise DataError(f"the grammar's template of {action!r} is {template!r}, which this engine does not know")
    return (parts[0], parts[1], parts[2] if len(slots) == 2 else "")


CONTENTS = "[{o.indefinite + ' ' + o.name | inreceptacle(o:object, r:receptacle)}]"
INNER = "[{o2.indefinite + ' ' + o2.name | inreceptacleobject(o2:object, o:object)}]"
HELD = "[{o.indefinite + ' ' + o.name | holds(a:agent, o:object)}]"
HERE = "atlocation(a:agent, l:location) & receptacleatlocation(r:receptacle, l:location)"
FLOOR = (
    "atlocation(a:agent, l:location) & objectatlocation(o:object, l:location) & "
    "receptacleatlocation(r:receptacle, l:location) & not_inreceptacle(o:object, r:receptacle)"
)
EVERYTHING = "receptacleatlocation(r:receptacle, l:location)"
SEEN = ("openable(r:receptacle) & opened(r:receptacle)", "openable(r:receptacle)", "")


def read_grammar(text: str) -> tuple[Wording, str]:
    """Read a grammar.

    Returns:
        The wording, and the task sentence ("Your task is to: …").

    Raises:
        DataError: a missing rule, or one of another shape; names it.
    """
    grammar = _Grammar(text)
    o, r = {"{o.name}": "o"}, {"{r.name}": "r"}
    look: dict[str, Any] = _look(grammar)
    conditions = [c for c, _ in grammar.alternatives("examineReceptacle.feedback")]
    if conditions != list(SEEN):
        raise DataError("the grammar's rule 'examineReceptacle.feedback' has another shape than this engine knows")
    seen = [
        _pattern(rhs, {**r, CONTENTS: "list"}, "examineReceptacle.feedback")
        for _, rhs in grammar.alternatives("examineReceptacle.feedback")
    ]
    for action in ("examinereceptacle", "examineobject", "look", "inventory"):
        if grammar.feedback(action).lower() != f"#{action}.feedback#":
            raise DataError(f"the grammar's feedback of {action!r} is not its own rule")
    carried = grammar.alternatives("inventory.feedback")
    if [c for c, _ in carried] != ["holdsany(a:agent)", ""]:
        raise DataError("the grammar's rule 'inventory.feedback' has another shape than this engine knows")
    arrival = {**r, "{lend.name}": "loc", "#examineReceptacle.feedback#": "seen"}

    def said(action: str, known: dict[str, str]) -> str:
        rule = grammar.feedback(action).strip("#")
        return _pattern(grammar.one(rule), known, rule)

    commands: dict[str, Any] = {
        "goto": _command(
            grammar.template("gotolocation"),
            "gotolocation",
            ("[{r.name | " + EVERYTHING.replace("l:", "lend:") + "}]",),
        ),
        "open": _command(grammar.template("openobject"), "openobject", ("{r}",)),
        "close": _command(grammar.template("closeobject"), "closeobject", ("{r}",)),
        "take": _command(grammar.template("pickupobject"), "pickupobject", ("{o}", "{r}")),
        "put": _command(grammar.template("putobject"), "putobject", ("{o}", "{r}")),
        "clean": _command(grammar.template("cleanobject"), "cleanobject", ("{o}", "{r}")),
        "heat": _command(grammar.template("heatobject"), "heatobject", ("{o}", "{r}")),
        "cool": _command(grammar.template("coolobject"), "coolobject", ("{o}", "{r}")),
        "slice": _command(grammar.template("sliceobject"), "sliceobject", ("{co}", "{ko}")),
        "use": _command(grammar.template("toggleobject"), "toggleobject", ("{o}",)),
        "examine": _command(grammar.template("examinereceptacle"), "examinereceptacle", ("{r}",)),
    }
    if _command(grammar.template("examineobject"), "examineobject", ("{o}",)) != commands["examine"]:
        raise DataError("the grammar's templates of 'examineObject' and 'examineReceptacle' differ")
    verbs = [c[0].split(" ", 1)[0] for c in commands.values()]
    if len(set(verbs)) != len(verbs):
        raise DataError("the grammar has two commands that start with the same word")
    help_text = None
    if "help" in grammar.actions:
        help_text = grammar.feedback("help").replace("\\n", "\n")
        if help_text.startswith("#"):
            help_text = grammar.one(help_text.strip("#"))
    wording = Wording(
        **commands,
        look=grammar.template("look"),
        inventory=grammar.template("inventory"),
        help=grammar.template("help") if help_text is not None else None,
        intro=_pattern(grammar.one("intro"), {"#look.feedback#": "look", "#task#": "task"}, "intro"),
        said_goto=said("gotolocation", arrival),
        said_open=said("openobject", arrival),
        said_close=said("closeobject", r),
        said_take=said("pickupobject", {**o, **r}),
        said_put=said("putobject", {**o, **r}),
        said_clean=said("cleanobject", {**o, **r}),
        said_heat=said("heatobject", {**o, **r}),
        said_cool=said("coolobject", {**o, **r}),
        said_slice=said("sliceobject", {"{co.name}": "o", "{ko.name}": "k"}),
        said_use=_toggle(grammar),
        said_inventory=_pattern(carried[0][1], {HELD: "list"}, "inventory.feedback"),
        said_inventory_empty=_pattern(carried[1][1], {}, "inventory.feedback"),
        said_help=help_text,
        seen_open=seen[0],
        seen_closed=seen[1],
        seen_on=seen[2],
        object_rules=_object_rules(grammar),
        **look,
    )
    return wording, grammar.one("task")


def _look(grammar: _Grammar) -> dict[str, str]:
    """The fields of `Wording` that `look` and the lists need."""
    shapes = {
        "look.feedback": [HERE, ""],
        "list_objects_on_the_floor": [FLOOR, ""],
        "list_appliances": [EVERYTHING, ""],
    }
    for rule, conditions in shapes.items():
        if [c for c, _ in grammar.alternatives(rule)] != conditions:
            raise DataError(f"the grammar's rule {rule!r} has another shape than this engine knows")
    here, middle = (rhs for _, rhs in grammar.alternatives("look.feedback"))
    floor, no_floor = (rhs for _, rhs in grammar.alternatives("list_objects_on_the_floor"))
    everything, no_place = (rhs for _, rhs in grammar.alternatives("list_appliances"))
    nothing = grammar.one("list_empty")
    facing = _pattern(grammar.one("look-variations"), {"[{r.name | " + HERE + "}]": "here"}, "look-variations")
    look_here = _pattern(here, {"#look-variations#": "facing", "#list_objects_on_the_floor#": "floor"}, "look.feedback")
    item = _pattern(grammar.one("overview(o)"), {"{o.indefinite}": "a", "{o.name}": "name"}, "overview(o)")
    place = _pattern(grammar.one("overview(r)"), {"{r.indefinite}": "a", "{r.name or r.id}": "name"}, "overview(r)")
    same = (
        floor == "[{#overview(o)# | " + FLOOR + "}]"
        and everything == "[{#overview(r)# | " + EVERYTHING + "}]"
        and no_floor == no_place == nothing
        and item == place == "{a} {name}"
    )
    if not same:
        raise DataError("the grammar's rules for lists have another shape than this engine knows")
    return {
        "look_here": look_here.replace("{facing}", facing),
        "look_middle": _pattern(middle, {"#list_appliances#": "all"}, "look.feedback"),
        "item": "a {}",
        "comma": grammar.one("list_separator"),
        "last_comma": grammar.one("list_last_separator"),
        "nothing": nothing,
    }


def _toggle(grammar: _Grammar) -> str:
    """The answer to `use`: the first alternative always holds, since using sets "toggled" before the answer is made."""
    rules = grammar.alternatives(grammar.feedback("toggleobject").strip("#"))
    if not rules or rules[0][0] != "toggleable(o:object) & istoggled(o:object)":
        raise DataError("the grammar's rule 'toggleObject.feedback' has another shape than this engine knows")
    return _pattern(rules[0][1], {"{o.name}": "o"}, "toggleObject.feedback")


def _object_rules(grammar: _Grammar) -> tuple[tuple[int, str], ...]:
    rules: list[tuple[int, str]] = []
    for condition, rhs in grammar.alternatives("examineObject.feedback"):
        names = [re.fullmatch(r"(\w+)\(o:object\)", part.strip()) for part in condition.split("&")] if condition else []
        bits = 0
        never = False
        for name in names:
            if name is not None and name.group(1) == "not_istoggled":
                never = True  # a fact that the original never holds: nothing untoggles
            elif name is None or name.group(1) not in FLAGS:
                raise DataError(f"the grammar's rule 'examineObject.feedback' has the unknown condition {condition!r}")
            else:
                bits |= FLAGS[name.group(1)]
        if not never:
            rules.append((bits, _pattern(rhs, {"{o.name}": "o", INNER: "list"}, "examineObject.feedback")))
    if not rules or rules[-1][0]:
        raise DataError("the grammar's rule 'examineObject.feedback' has no answer for a plain object")
    return tuple(rules)
