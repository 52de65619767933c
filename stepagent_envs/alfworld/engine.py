"""Playing a game: what the original says and does, on a few integers.

A `Game` is compiled once and never changes; any number of `World`s can play it. A world's state is a position, some
bit masks over objects and receptacles, and the few objects that were ever moved, so that snapshots cost microseconds.
The original's behaviour that one would not expect, all of it kept:

- one can work on every receptacle of the place where one stands, but `go to` one of them is refused;
- an object can lie in two receptacles at once, and taking it from one leaves it in the other;
- `examine` works on a held object, not on one that lies there, although the domain would allow it;
- cleaning, heating and cooling need the appliance, not that it is open; lamps can be used inside closed things;
- the first observation lists the receptacles of the room, but `look` in the middle of the room sees "nothing";
- `look` lists as lying "next to it" what was taken from one receptacle of the place and put into another of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from stepagent_envs.alfworld.grammar import FLAGS, Wording

__all__ = ["Game", "State", "World", "bits"]

PICKUPABLE, CLEANABLE, HEATABLE, COOLABLE = (FLAGS[n] for n in ("pickupable", "cleanable", "heatable", "coolable"))
TOGGLEABLE, SLICEABLE, CONTAINER = (FLAGS[n] for n in ("toggleable", "sliceable", "isreceptacleobject"))
CLEAN, HOT, COOL, SLICED, TOGGLED = (FLAGS[n] for n in ("isclean", "ishot", "iscool", "issliced", "istoggled"))

State = tuple[int, int, int, tuple[tuple[int, int], ...], tuple[tuple[int, int, int, int], ...]]
"""Position, held object or -1, opened receptacles, (object, properties) where changed, and for every moved object
(object, receptacles it is in, locations it is at, receptacles it was taken from). Sorted, so equal states are equal."""


Verb = tuple[str, str, str, "Callable[[World, str, str], str | None]"]
_TWO_SLOTS = ("take", "put", "clean", "heat", "cool", "slice")


def bits(mask: int) -> list[int]:
    """Positions of the set bits, lowest first."""
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


class Game:
    """A compiled game, shared by every world that plays it.

    Args:
        record: see `compiler.compile_problem`; plus `task` (the sentence).
        wording: how the game speaks.
    """

    __slots__ = (
        "accepts",
        "aim",
        "always",
        "at0",
        "by_rec_name",
        "commands_goto",
        "coolers",
        "flags0",
        "goal",
        "heaters",
        "held0",
        "here",
        "in0",
        "inner",
        "inside0",
        "items",
        "kind",
        "knives",
        "loc_names",
        "obj_index",
        "obj_names",
        "obj_types",
        "openable",
        "opened0",
        "pickupable",
        "rates",
        "rec_index",
        "rec_loc",
        "rec_names",
        "rec_types",
        "shared",
        "sinks",
        "sliceable",
        "start",
        "task",
        "toggleable",
        "verbs",
        "wording",
    )

    def __init__(self, record: Mapping[str, Any], wording: Wording) -> None:
        self.wording = wording
        self.task: str = record["task"]
        self.kind: str = record["kind"]
        self.start: int = record["start"]
        recs, objs = record["recs"], record["objs"]
        count = record["locs"]
        self.loc_names = [f"loc {count - i}" for i in range(count)]
        self.rec_names = [f"{name} {number}" for name, number, *_ in recs]
        self.rec_types = [rec[2] for rec in recs]
        self.rec_loc = [rec[3] for rec in recs]
        self.openable = sum(1 << r for r, rec in enumerate(recs) if rec[4])
        self.opened0 = sum(1 << r for r, rec in enumerate(recs) if rec[5])
        self.obj_names = [f"{name} {number}" for name, number, *_ in objs]
        self.obj_types = [obj[2] for obj in objs]
        self.flags0 = [obj[3] for obj in objs]
        self.items = [wording.item.format(name) for name in self.obj_names]
        self.rec_index = {name: r for r, name in enumerate(self.rec_names)}
        self.obj_index = {name: o for o, name in enumerate(self.obj_names)}
        self.inside0 = [sum(1 << o for o in inside) for inside in record["inside"]]
        self.inner = dict(record["inner"])
        self.held0: int = record["held"]
        self.here: list[tuple[int, ...]] = [()] * count
        for r, place in enumerate(self.rec_loc):
            self.here[place] += (r,)
        self.shared = sum(1 << r for r, place in enumerate(self.rec_loc) if len(self.here[place]) > 1)
        self.in0 = [0] * len(objs)
        self.at0 = [0] * len(objs)
        for r, inside in enumerate(record["inside"]):
            for o in inside:
                self.in0[o] |= 1 << r
                self.at0[o] |= 1 << self.rec_loc[r]
        for o, places in record["at"]:
            self.at0[o] = sum(1 << place for place in places)
        fits = {kind: set(types) for kind, types in record["fits"].items()}
        by_type: dict[str, int] = {}
        for kind, types in fits.items():
            by_type[kind] = sum(1 << o for o, t in enumerate(self.obj_types) if t in types)
        self.accepts = [by_type.get(kind, 0) for kind in self.rec_types]
        self.pickupable, self.sliceable, self.toggleable = (
            sum(1 << o for o, f in enumerate(self.flags0) if f & bit) for bit in (PICKUPABLE, SLICEABLE, TOGGLEABLE)
        )
        self.sinks, self.heaters, self.coolers = (
            sum(1 << r for r, kind in enumerate(self.rec_types) if kind in record[name])
            for name in ("sinks", "heaters", "coolers")
        )
        self.knives = sum(1 << o for o, kind in enumerate(self.obj_types) if kind in record["knives"])
        self.goal = [
            (
                None if part["recs"] is None else tuple(part["recs"]),
                bool(part["here"]),
                [(sum(1 << o for o in allowed), want, i, h) for allowed, want, i, h in part["objs"]],
                part["differ"],
            )
            for part in record["goal"]
        ]
        self.verbs = _verbs(wording)
        self.aim: Any = None  # the experts keep here what they work out once
        self.rates: dict[str, list[float]] = {}
        self.always = [c for c in (wording.help, wording.inventory, wording.look) if c is not None]
        self.commands_goto: dict[int, list[str]] = {}
        self.by_rec_name = sorted(range(len(recs)), key=lambda r: self.rec_names[r])

    def listed(self, items: list[str]) -> str:
        """A list in words."""
        w = self.wording
        if not items:
            return w.nothing
        if len(items) == 1:
            return items[0]
        return w.comma.join(items[:-1]) + w.last_comma + items[-1]

    def goto_commands(self, place: int) -> list[str]:
        """The sorted `go to` commands from a location."""
        found = self.commands_goto.get(place)
        if found is None:
            before, after, _ = self.wording.goto
            loc = self.rec_loc
            found = [before + self.rec_names[r] + after for r in self.by_rec_name if loc[r] != place]
            self.commands_goto[place] = found
        return found


class World:
    """One play of a game.

    Attributes:
        loc: location index. held: object index or -1. opened: receptacles as bits. flags: properties of each object.
        contents: for each receptacle the objects in it as bits. moved: see `State`.
        seen: receptacles whose contents were shown, known: objects whose condition was shown or changed, both as bits:
        what someone who reads the answers knows beyond the objects it moved itself.
    """

    __slots__ = ("contents", "flags", "game", "held", "known", "loc", "moved", "opened", "seen")

    def __init__(self, game: Game) -> None:
        self.reset(game)

    def reset(self, game: Game) -> str:
        """Start (another) game; returns the first observation."""
        self.game = game
        self.loc = game.start
        self.held = game.held0
        self.opened = game.opened0
        self.flags = game.flags0[:]
        self.contents = game.inside0[:]
        self.moved: dict[int, tuple[int, int, int]] = {}
        self.seen = 0
        self.known = 0
        return game.wording.intro.format(look=self._look(first=True), task=game.task)

    # --- state -----------------------------------------------------------------------------------------------------

    def save(self) -> State:
        """The state as an immutable value; equal states give equal values."""
        game = self.game
        flags0 = game.flags0
        changed = () if self.flags == flags0 else tuple((o, f) for o, f in enumerate(self.flags) if f != flags0[o])
        moved = self.moved
        if not moved:
            return (self.loc, self.held, self.opened, changed, ())
        in0, at0 = game.in0, game.at0
        away = tuple(
            (o, *masks) for o, masks in sorted(moved.items()) if masks[0] != in0[o] or masks[1] != at0[o] or masks[2]
        )
        return (self.loc, self.held, self.opened, changed, away)

    def load(self, game: Game, state: State, seen: int = 0, known: int = 0) -> None:
        """Return to a saved state of a game, with what was known then."""
        self.seen, self.known = seen, known
        self.game = game
        self.loc, self.held, self.opened, changed, away = state
        self.flags = game.flags0[:]
        for o, f in changed:
            self.flags[o] = f
        self.contents = contents = game.inside0[:]
        self.moved = {}
        for o, now_in, now_at, taken in away:
            self.moved[o] = (now_in, now_at, taken)
            bit = 1 << o
            for r in bits(now_in ^ game.in0[o]):
                contents[r] ^= bit

    def _where(self, o: int) -> tuple[int, int, int]:
        """Receptacles that hold an object, locations it is at, and receptacles of shared places it was taken from."""
        found = self.moved.get(o)
        return found if found is not None else (self.game.in0[o], self.game.at0[o], 0)

    # --- goal ------------------------------------------------------------------------------------------------------

    def won(self) -> bool:
        """The goal holds now."""
        here = self.game.here[self.loc]
        for recs, at_place, things, differ in self.game.goal:
            if recs is None:
                places: tuple[int, ...] = (-1,)
            else:
                places = tuple(r for r in here if r in recs) if at_place else recs
            if not any(self._part_holds(r, things, differ) for r in places):
                return False
        return True

    def _part_holds(self, r: int, things: list[tuple[int, int, int, int]], differ: list[list[int]]) -> bool:
        inside = self.contents[r] if r >= 0 else 0
        flags = self.flags
        choices = []
        for allowed, want, in_it, in_hand in things:
            found = allowed & inside if in_it else allowed
            if in_hand:
                found &= 1 << self.held if self.held >= 0 else 0
            if not found:
                return False
            fit = [o for o in bits(found) if flags[o] & want == want]
            if not fit:
                return False
            choices.append(fit)
        return not differ or _choose(choices, differ, [])

    # --- commands --------------------------------------------------------------------------------------------------

    def act(self, command: str) -> str | None:
        """Carry out a command and return the answer, or None for a command that is not admissible now.

        Commands are matched exactly, after blanks at both ends are dropped, as in the original.
        """
        command = command.strip()
        game = self.game
        entry = game.verbs.get(command.partition(" ")[0])
        if entry is not None:
            before, between, after, method = entry
            if command.startswith(before) and command.endswith(after) and len(command) >= len(before) + len(after):
                rest = command[len(before) : len(command) - len(after)]
                return method(self, rest, between)
            return None
        if command == game.wording.look:
            return self._look()
        if command == game.wording.inventory:
            return self._inventory()
        if command == game.wording.help:
            return game.wording.said_help
        return None

    def _near(self, name: str) -> int:
        """The receptacle of a name if it stands here, else -1."""
        r = self.game.rec_index.get(name, -1)
        return r if r >= 0 and self.game.rec_loc[r] == self.loc else -1

    def _pair(self, rest: str, between: str) -> tuple[int, int]:
        """Object and receptacle of a command's two slots; -1 for an unknown object or a receptacle not here."""
        first, _, second = rest.partition(between)
        return self.game.obj_index.get(first, -1), self._near(second)

    def _is_open(self, r: int) -> bool:
        return not self.game.openable >> r & 1 or bool(self.opened >> r & 1)

    def _seen(self, r: int) -> str:
        game = self.game
        w = game.wording
        name = game.rec_names[r]
        if game.openable >> r & 1 and not self.opened >> r & 1:
            return w.seen_closed.format(r=name)
        self.seen |= 1 << r
        items = game.items
        inside = game.listed([items[o] for o in bits(self.contents[r])])
        return (w.seen_open if game.openable >> r & 1 else w.seen_on).format(r=name, list=inside)

    def _goto(self, rest: str, _: str) -> str | None:
        game = self.game
        r = game.rec_index.get(rest, -1)
        if r < 0 or game.rec_loc[r] == self.loc:
            return None
        self.loc = game.rec_loc[r]
        return game.wording.said_goto.format(r=rest, loc=game.loc_names[self.loc], seen=self._seen(r))

    def _open(self, rest: str, _: str) -> str | None:
        r = self._near(rest)
        if r < 0 or self._is_open(r):
            return None
        self.opened |= 1 << r
        game = self.game
        return game.wording.said_open.format(r=rest, loc=game.loc_names[self.loc], seen=self._seen(r))

    def _close(self, rest: str, _: str) -> str | None:
        r = self._near(rest)
        if r < 0 or not self.opened >> r & 1 or not self.game.openable >> r & 1:
            return None
        self.opened &= ~(1 << r)
        return self.game.wording.said_close.format(r=rest)

    def _take(self, rest: str, between: str) -> str | None:
        o, r = self._pair(rest, between)
        game = self.game
        if o < 0 or r < 0 or self.held >= 0 or not game.pickupable >> o & 1:
            return None
        if not self.contents[r] >> o & 1 or not self._is_open(r):
            return None
        now_in, now_at, taken = self._where(o)
        self.contents[r] ^= 1 << o
        self.moved[o] = (now_in & ~(1 << r), now_at & ~(1 << self.loc), taken | (1 << r & game.shared))
        self.held = o
        return game.wording.said_take.format(o=game.obj_names[o], r=game.rec_names[r])

    def _put(self, rest: str, between: str) -> str | None:
        o, r = self._pair(rest, between)
        game = self.game
        if o < 0 or r < 0 or self.held != o or not game.accepts[r] >> o & 1 or not self._is_open(r):
            return None
        now_in, now_at, taken = self._where(o)
        self.contents[r] |= 1 << o
        self.moved[o] = (now_in | 1 << r, now_at | 1 << self.loc, taken & ~(1 << r))
        self.held = -1
        return game.wording.said_put.format(o=game.obj_names[o], r=game.rec_names[r])

    def _treat(self, rest: str, between: str, able: int, places: int, add: int, drop: int) -> tuple[str, str] | None:
        o, r = self._pair(rest, between)
        game = self.game
        if o < 0 or r < 0 or self.held != o or not places >> r & 1 or not game.flags0[o] & able:
            return None
        self.flags[o] = self.flags[o] & ~drop | add
        self.known |= 1 << o
        return game.obj_names[o], game.rec_names[r]

    def _clean(self, rest: str, between: str) -> str | None:
        done = self._treat(rest, between, CLEANABLE, self.game.sinks, CLEAN, 0)
        return done and self.game.wording.said_clean.format(o=done[0], r=done[1])

    def _heat(self, rest: str, between: str) -> str | None:
        done = self._treat(rest, between, HEATABLE, self.game.heaters, HOT, COOL)
        return done and self.game.wording.said_heat.format(o=done[0], r=done[1])

    def _cool(self, rest: str, between: str) -> str | None:
        done = self._treat(rest, between, COOLABLE, self.game.coolers, COOL, HOT)
        return done and self.game.wording.said_cool.format(o=done[0], r=done[1])

    def _slice(self, rest: str, between: str) -> str | None:
        game = self.game
        first, _, second = rest.partition(between)
        o, knife = game.obj_index.get(first, -1), game.obj_index.get(second, -1)
        if o < 0 or knife < 0 or self.held != knife or not game.knives >> knife & 1 or not game.sliceable >> o & 1:
            return None
        if not self._where(o)[1] >> self.loc & 1:
            return None
        self.flags[o] |= SLICED
        return game.wording.said_slice.format(o=first, k=second)

    def _use(self, rest: str, _: str) -> str | None:
        game = self.game
        o = game.obj_index.get(rest, -1)
        if o < 0 or not game.toggleable >> o & 1:
            return None
        if not any(self.contents[r] >> o & 1 for r in game.here[self.loc]):
            return None
        self.flags[o] |= TOGGLED
        return game.wording.said_use.format(o=rest)

    def _examine(self, rest: str, _: str) -> str | None:
        game = self.game
        r = self._near(rest)
        if r >= 0:
            return self._seen(r)
        if self.held < 0 or game.obj_names[self.held] != rest:
            return None
        state = self.flags[self.held]
        self.known |= 1 << self.held
        for need, pattern in game.wording.object_rules:
            if state & need == need:
                inside = game.listed([game.items[o] for o in game.inner.get(self.held, ())])
                return pattern.format(o=rest, list=inside)
        return None

    def _look(self, first: bool = False) -> str:
        game = self.game
        here = game.here[self.loc]
        if not here:
            w = game.wording
            return w.look_middle.format(all=game.listed([w.item.format(n) for n in game.rec_names] if first else []))
        floor = []
        place = 1 << self.loc
        for o, (now_in, now_at, taken) in sorted(self.moved.items()):
            if now_at & place and taken:
                floor += [game.items[o] for r in here if taken >> r & 1 and not now_in >> r & 1]
        facing = game.listed([game.rec_names[r] for r in here])
        return game.wording.look_here.format(here=facing, floor=game.listed(floor))

    def _inventory(self) -> str:
        w = self.game.wording
        return w.said_inventory.format(list=self.game.items[self.held]) if self.held >= 0 else w.said_inventory_empty

    # --- what can be done ------------------------------------------------------------------------------------------

    def admissible(self) -> list[str]:
        """Every command that would be carried out now, sorted."""
        game = self.game
        w = game.wording
        here = game.here[self.loc]
        found = game.goto_commands(self.loc) + game.always
        if not here and self.held < 0:
            return sorted(found)
        names = game.obj_names
        contents, held, opened = self.contents, self.held, self.opened
        for r in here:
            name = game.rec_names[r]
            found.append(f"{w.examine[0]}{name}{w.examine[1]}")
            is_open = True
            if game.openable >> r & 1:
                is_open = bool(opened >> r & 1)
                before, after, _ = w.close if is_open else w.open
                found.append(f"{before}{name}{after}")
            if held < 0:
                if is_open:
                    before, between, after = w.take
                    mask = contents[r] & game.pickupable
                    found += [f"{before}{names[o]}{between}{name}{after}" for o in bits(mask)]
            elif is_open and game.accepts[r] >> held & 1:
                before, between, after = w.put
                found.append(f"{before}{names[held]}{between}{name}{after}")
            for o in bits(contents[r] & game.toggleable):
                before, after, _ = w.use
                found.append(f"{before}{names[o]}{after}")
        if held >= 0:
            self._with_held(found, here)
        return sorted(set(found)) if len(here) > 1 else sorted(found)

    def _with_held(self, found: list[str], here: tuple[int, ...]) -> None:
        """Add the commands that need a held object."""
        game = self.game
        w = game.wording
        name = game.obj_names[self.held]
        can = game.flags0[self.held]
        found.append(f"{w.examine[0]}{name}{w.examine[1]}")
        for able, places, (before, between, after) in (
            (CLEANABLE, game.sinks, w.clean),
            (HEATABLE, game.heaters, w.heat),
            (COOLABLE, game.coolers, w.cool),
        ):
            if can & able:
                found += [f"{before}{name}{between}{game.rec_names[r]}{after}" for r in here if places >> r & 1]
        if game.knives >> self.held & 1:
            before, between, after = w.slice
            for o in bits(game.sliceable):
                if self._where(o)[1] >> self.loc & 1:
                    found.append(f"{before}{game.obj_names[o]}{between}{name}{after}")


def _choose(choices: list[list[int]], differ: list[list[int]], chosen: list[int]) -> bool:
    """Whether one of each list can be chosen so that the pairs in `differ` are different."""
    if len(chosen) == len(choices):
        return all(chosen[a] != chosen[b] for a, b in differ)
    return any(_choose(choices, differ, [*chosen, o]) for o in choices[len(chosen)])


_METHODS: dict[str, Callable[[World, str, str], str | None]] = {
    "goto": World._goto,
    "open": World._open,
    "close": World._close,
    "take": World._take,
    "put": World._put,
    "clean": World._clean,
    "heat": World._heat,
    "cool": World._cool,
    "slice": World._slice,
    "use": World._use,
    "examine": World._examine,
}


@lru_cache(maxsize=64)
def _verbs(wording: Wording) -> dict[str, Verb]:
    """First word of a command -> its parts and the method that carries it out."""
    verbs: dict[str, Verb] = {}
    for name, method in _METHODS.items():
        before, second, third = getattr(wording, name)
        between, after = (second, third) if name in _TWO_SLOTS else ("", second)
        verbs[before.partition(" ")[0]] = (before, between, after, method)
    return verbs
