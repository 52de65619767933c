"""The way back: a game's record as PDDL and grammar texts, so that built-in games can be played on the original engine.

Names of things carry coordinates in the official files; here a running number stands for them, chosen so that the
original's sorting and numbering give the same names again. What the compiler had dropped (windows and the like) is made
up for by place holders where a number or a location depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stepagent_envs.alfworld.generator import goal_formula
from stepagent_envs.alfworld.grammar import CONTENTS, EVERYTHING, FLAGS, FLOOR, HELD, HERE, INNER, SEEN, Wording
from stepagent_envs.alfworld.pddl import Expr

__all__ = ["export_game"]

_PREDICATES = """
(atLocation ?a - agent ?l - location) (receptacleAtLocation ?r - receptacle ?l - location)
(objectAtLocation ?o - object ?l - location) (openable ?r - receptacle) (opened ?r - receptacle)
(inReceptacle ?o - object ?r - receptacle) (isReceptacleObject ?o - object)
(inReceptacleObject ?innerObject - object ?outerObject - object) (checked ?r - receptacle)
(receptacleType ?r - receptacle ?t - rtype) (canContain ?rt - rtype ?ot - otype) (objectType ?o - object ?t - otype)
(holds ?a - agent ?o - object) (holdsAny ?a - agent) (isClean ?o - object) (cleanable ?o - object)
(isHot ?o - object) (heatable ?o - object) (isCool ?o - object) (coolable ?o - object) (pickupable ?o - object)
(moveable ?o - object) (toggleable ?o - object) (isOn ?o - object) (isToggled ?o - object) (sliceable ?o - object)
(isSliced ?o - object)
"""

_REACH = "(atLocation ?a ?l) (receptacleAtLocation ?r ?l)"
_OPEN = "(or (not (openable ?r)) (opened ?r))"

_ACTIONS = (
    ("look", "?a - agent ?l - location", "(and (atLocation ?a ?l))", "(checked ?l)"),
    ("inventory", "?a - agent", "()", "(checked ?a)"),
    (
        "examineReceptacle",
        "?a - agent ?r - receptacle",
        f"(and (exists (?l - location) (and {_REACH})))",
        "(checked ?r)",
    ),
    (
        "examineObject",
        "?a - agent ?o - object",
        f"(or (exists (?l - location, ?r - receptacle) (and {_REACH} (inReceptacle ?o ?r) {_OPEN})) (holds ?a ?o))",
        "(checked ?o)",
    ),
    (
        "GotoLocation",
        "?a - agent ?lStart - location ?lEnd - location ?r - receptacle",
        "(and (atLocation ?a ?lStart) (receptacleAtLocation ?r ?lEnd))",
        "(not (atLocation ?a ?lStart)) (atLocation ?a ?lEnd) (increase (total-cost) 1)",
    ),
    (
        "OpenObject",
        "?a - agent ?l - location ?r - receptacle",
        f"(and (openable ?r) {_REACH} (not (opened ?r)))",
        "(opened ?r) (checked ?r) (increase (total-cost) 1)",
    ),
    (
        "CloseObject",
        "?a - agent ?l - location ?r - receptacle",
        f"(and (openable ?r) {_REACH} (opened ?r))",
        "(not (opened ?r)) (increase (total-cost) 1)",
    ),
    (
        "PickupObject",
        "?a - agent ?l - location ?o - object ?r - receptacle",
        f"(and (pickupable ?o) {_REACH} (inReceptacle ?o ?r) (not (holdsAny ?a)) {_OPEN})",
        "(not (inReceptacle ?o ?r)) (holds ?a ?o) (holdsAny ?a) (not (objectAtLocation ?o ?l)) "
        "(increase (total-cost) 1)",
    ),
    (
        "PutObject",
        "?a - agent ?l - location ?o - object ?r - receptacle ?ot - otype ?rt - rtype",
        f"(and (holds ?a ?o) {_REACH} {_OPEN} (objectType ?o ?ot) (receptacleType ?r ?rt) (canContain ?rt ?ot))",
        "(inReceptacle ?o ?r) (objectAtLocation ?o ?l) (not (holds ?a ?o)) (not (holdsAny ?a)) "
        "(increase (total-cost) 1)",
    ),
)

_TREATMENTS = (
    ("CleanObject", "cleanable", "sinks", "(isClean ?o)"),
    ("HeatObject", "heatable", "heaters", "(isHot ?o) (not (isCool ?o))"),
    ("CoolObject", "coolable", "coolers", "(isCool ?o) (not (isHot ?o))"),
)


def _action(name: str, parameters: str, precondition: str, effect: str) -> str:
    return f"(:action {name}\n :parameters ({parameters})\n :precondition {precondition}\n :effect (and {effect}))\n"


def _domain(record: Mapping[str, Any], has_help: bool) -> str:
    actions = [_action(*action) for action in _ACTIONS]
    for name, able, places, effect in _TREATMENTS:
        kinds = " ".join(f"(receptacleType ?r {kind})" for kind in record[places])
        need = f"(and ({able} ?o) (or {kinds}) {_REACH} (holds ?a ?o))"
        parameters = "?a - agent ?l - location ?r - receptacle ?o - object"
        actions.append(_action(name, parameters, need, "(increase (total-cost) 5) " + effect))
    flip = "(when (isOn ?o) (not (isOn ?o))) (when (not (isOn ?o)) (isOn ?o)) (isToggled ?o)"
    actions.append(
        _action(
            "ToggleObject",
            "?a - agent ?l - location ?o - object ?r - receptacle",
            f"(and (toggleable ?o) {_REACH} (inReceptacle ?o ?r))",
            "(increase (total-cost) 5) " + flip,
        )
    )
    knives = " ".join(f"(objectType ?ko {kind})" for kind in record["knives"])
    actions.append(
        _action(
            "SliceObject",
            "?a - agent ?l - location ?co - object ?ko - object",
            f"(and (sliceable ?co) (or {knives}) (atLocation ?a ?l) (objectAtLocation ?co ?l) (holds ?a ?ko))",
            "(increase (total-cost) 5) (isSliced ?co)",
        )
    )
    if has_help:
        actions.append(_action("help", "?a - agent", "()", "(checked ?a)"))
    return (
        "(define (domain alfred)\n(:requirements :adl :action-costs :typing)\n"
        "(:types agent location receptacle object rtype otype)\n"
        f"(:predicates {_PREDICATES})\n(:functions (distance ?from ?to) (total-cost) - number)\n{''.join(actions)})\n"
    )


class _Names:
    """Ids from which the original makes the names and numbers of a record."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        things = [(tuple(thing[:2])) for thing in (*record["recs"], *record["objs"])]
        most: dict[str, int] = {}
        for name, number in things:
            most[name] = max(number, most.get(name, 0))
        self._most = most
        self.recs = [self._id(name, number) for name, number, *_ in record["recs"]]
        self.objs = [self._id(name, number) for name, number, *_ in record["objs"]]
        self.locs = [f"loc_bar_{i:05d}" for i in range(record["locs"])]
        taken = set(things)
        self.missing = [
            self._id(name, number)
            for name in sorted(most)
            for number in range(1, most[name])
            if (name, number) not in taken
        ]
        self.nooks = [f"nook_bar_{i:05d}" for i in range(record["locs"])]

    def _id(self, name: str, number: int) -> str:
        rank = f"{self._most[name] - number:05d}"
        return f"{name.removesuffix('basin')}_bar_{rank}_bar_{name}" if name.endswith("basin") else f"{name}_bar_{rank}"


def _text(expr: Expr) -> str:
    return expr if isinstance(expr, str) else "(" + " ".join(_text(part) for part in expr) + ")"


def _problem(record: Mapping[str, Any], goal: Expr) -> str:
    names = _Names(record)
    recs, objs, locs = record["recs"], record["objs"], names.locs
    facts = [f"(atLocation agent1 {locs[record['start']]})"]
    facts += [f"(objectAtLocation {nook} {place})" for nook, place in zip(names.nooks, locs, strict=True)]
    facts += [f"(moveable {name})" for name in names.missing]
    for rec_id, (_, _, kind, place, openable, opened) in zip(names.recs, recs, strict=True):
        facts += [f"(receptacleType {rec_id} {kind})", f"(receptacleAtLocation {rec_id} {locs[place]})"]
        facts += [f"(openable {rec_id})"] * openable + [f"(opened {rec_id})"] * opened
    own = dict(record["at"])
    spots: dict[int, set[int]] = {o: set() for o in range(len(objs))}
    for r, inside in enumerate(record["inside"]):
        for o in inside:
            facts.append(f"(inReceptacle {names.objs[o]} {names.recs[r]})")
            spots[o].add(recs[r][3])
    for o, (_, _, kind, flags) in enumerate(objs):
        facts.append(f"(objectType {names.objs[o]} {kind})")
        facts += [f"({flag} {names.objs[o]})" for flag, bit in FLAGS.items() if flags & bit]
        facts += [f"(objectAtLocation {names.objs[o]} {locs[place]})" for place in own.get(o, sorted(spots[o]))]
    facts += [f"(inReceptacleObject {names.objs[i]} {names.objs[o]})" for o, inner in record["inner"] for i in inner]
    if record["held"] >= 0:
        facts += [f"(holds agent1 {names.objs[record['held']]})", "(holdsAny agent1)"]
    facts += [f"(canContain {kind} {held})" for kind, types in record["fits"].items() for held in types]
    rtypes = {rec[2] for rec in recs} | set(record["fits"])
    otypes = {obj[2] for obj in objs} | {kind for types in record["fits"].values() for kind in types}
    others = {kind for place in ("sinks", "heaters", "coolers", "knives") for kind in record[place]}
    rtypes |= (others | _constants(goal)) - rtypes - otypes
    objects = ["agent1 - agent"]
    for group, kind in (
        (locs, "location"),
        (names.recs, "receptacle"),
        ([*names.objs, *names.missing, *names.nooks], "object"),
        (sorted(rtypes), "rtype"),
        (sorted(otypes), "otype"),
    ):
        objects += [f"{name} - {kind}" for name in group]
    lines = "\n".join
    return (
        f"(define (problem game)\n(:domain alfred)\n(:objects\n{lines(objects)})\n"
        f"(:init\n(= (total-cost) 0)\n{lines(facts)})\n(:goal {_text(goal)}))\n"
    )


def _constants(goal: Expr) -> set[str]:
    if isinstance(goal, str):
        return {goal} if goal.endswith("type") and not goal.startswith("?") else set()
    return set().union(*(_constants(part) for part in goal[1:])) if goal else set()


def _command(parts: tuple[str, str, str], *slots: str) -> str:
    before, *rest = parts
    return before + "".join(slot + text for slot, text in zip(slots, rest, strict=False))


def _grammar(w: Wording, task: str) -> str:
    arrival = {"r": "{r.name}", "loc": "{lend.name}", "seen": "#examineReceptacle.feedback#"}
    named = {"o": "{o.name}", "r": "{r.name}"}

    def rule(name: str, *alternatives: tuple[str, str]) -> tuple[str, list[dict[str, str]]]:
        return name, [{**({"condition": c} if c else {}), "rhs": rhs} for c, rhs in alternatives]

    seen = (w.seen_open, w.seen_closed, w.seen_on)
    look_here, _, floor_end = w.look_here.partition("{floor}")
    facing, _, middle = look_here.partition("{here}")
    objects = []
    for need, text in w.object_rules:
        condition = " & ".join(f"{flag}(o:object)" for flag, bit in FLAGS.items() if need & bit)
        objects.append((condition, text.format(o="{o.name}", list=INNER)))
    item = "{%s.indefinite} {%s.name}"
    rules = dict(
        [
            rule("intro", ("", w.intro.format(look="#look.feedback#", task="#task#"))),
            rule("task", ("", task)),
            rule("GotoLocation.feedback", ("", w.said_goto.format(**arrival))),
            rule("OpenObject.feedback", ("", w.said_open.format(**arrival))),
            rule("CloseObject.feedback", ("", w.said_close.format(**named))),
            rule("PickupObject.feedback", ("", w.said_take.format(**named))),
            rule("PutObject.feedback", ("", w.said_put.format(**named))),
            rule("CleanObject.feedback", ("", w.said_clean.format(**named))),
            rule("HeatObject.feedback", ("", w.said_heat.format(**named))),
            rule("CoolObject.feedback", ("", w.said_cool.format(**named))),
            rule("SliceObject.feedback", ("", w.said_slice.format(o="{co.name}", k="{ko.name}"))),
            rule("ToggleObject.feedback", ("toggleable(o:object) & istoggled(o:object)", w.said_use.format(**named))),
            rule(
                "inventory.feedback",
                ("holdsany(a:agent)", w.said_inventory.format(list=HELD)),
                ("", w.said_inventory_empty),
            ),
            rule(
                "examineReceptacle.feedback",
                *[(c, text.format(r="{r.name}", list=CONTENTS)) for c, text in zip(SEEN, seen, strict=True)],
            ),
            rule("examineObject.feedback", *objects),
            rule(
                "look.feedback",
                (HERE, f"#look-variations#{middle}#list_objects_on_the_floor#{floor_end}"),
                ("", w.look_middle.format(all="#list_appliances#")),
            ),
            rule("look-variations", ("", facing + "[{r.name | " + HERE + "}]")),
            rule("list_objects_on_the_floor", (FLOOR, "[{#overview(o)# | " + FLOOR + "}]"), ("", w.nothing)),
            rule("list_appliances", (EVERYTHING, "[{#overview(r)# | " + EVERYTHING + "}]"), ("", w.nothing)),
            rule("overview(o)", ("", item % ("o", "o"))),
            rule("overview(r)", ("", "{r.indefinite} {r.name or r.id}")),
            rule("list_empty", ("", w.nothing)),
            rule("list_separator", ("", w.comma)),
            rule("list_last_separator", ("", w.last_comma)),
            *([rule("help.feedback", ("", w.said_help))] if w.said_help is not None else []),
        ]
    )
    templates = {
        "GotoLocation": _command(w.goto, "[{r.name | " + EVERYTHING.replace("l:", "lend:") + "}]"),
        "OpenObject": _command(w.open, "{r}"),
        "CloseObject": _command(w.close, "{r}"),
        "PickupObject": _command(w.take, "{o}", "{r}"),
        "PutObject": _command(w.put, "{o}", "{r}"),
        "CleanObject": _command(w.clean, "{o}", "{r}"),
        "HeatObject": _command(w.heat, "{o}", "{r}"),
        "CoolObject": _command(w.cool, "{o}", "{r}"),
        "SliceObject": _command(w.slice, "{co}", "{ko}"),
        "ToggleObject": _command(w.use, "{o}"),
        "examineReceptacle": _command(w.examine, "{r}"),
        "examineObject": _command(w.examine, "{o}"),
        "look": w.look,
        "inventory": w.inventory,
        **({"help": w.help} if w.help is not None else {}),
    }
    actions = "\n".join(
        f'action {name} {{\n    template :: "{text}";\n    feedback :: "#{name}.feedback#";\n}}\n'
        for name, text in templates.items()
    )
    return f'grammar :: """\n{json.dumps(rules, indent=1)}\n""";\n\n{actions}'


def export_game(record: Mapping[str, Any], wording: Wording) -> dict[str, str]:
    """A game as the original takes it: `pddl_domain`, `pddl_problem` and `grammar`."""
    kinds = {"recs": "", "objs": "", "lamps": ""}
    for part in record["goal"]:
        things = part["objs"][0][0]
        if part["here"]:
            kinds["lamps"] = record["objs"][things[0]][2]
        else:
            kinds["objs"] = record["objs"][things[0]][2]
            if part["recs"]:
                kinds["recs"] = record["recs"][part["recs"][0]][2]
    goal = goal_formula(record["kind"], kinds["objs"], kinds["lamps"] or kinds["recs"])
    return {
        "pddl_domain": _domain(record, wording.help is not None),
        "grammar": _grammar(wording, record["task"]),
        "pddl_problem": _problem(record, goal),
    }
