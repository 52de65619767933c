"""Two experts that answer from any state: `explorer` knows what it has been shown, `oracle` knows everything.

Both plan in deeds (take, treat, put, use), each done at a receptacle. Going costs one action wherever one goes, so the
cost of a sequence of deeds is the deeds plus one for every change of place and one for every closed receptacle opened
on the way. The oracle takes the cheapest sequence. The explorer does the same with what it knows, and while that is
not enough it looks into the unseen receptacle with the best chance per action, by the frequencies of the train games.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from stepagent_envs.alfworld import tables
from stepagent_envs.alfworld.engine import CLEAN, COOL, HOT, TOGGLED, Game, World, bits

__all__ = ["Aim", "aim_of", "explorer", "oracle"]

Deed = tuple[str, int, int]
"""A verb, an object and a receptacle."""

NEVER = 1 << 30

UNHEARD_OF = 0.0002
"""Chance given to places where the train games never had an object."""


class Aim(NamedTuple):
    """What a game asks for.

    Attributes:
        wanted: objects that can serve, as bits. needed: how many are needed in one receptacle.
        want: properties they need. verb: how to get them ("" where none are needed); treats: where, as indices.
        targets: receptacles that can serve; empty where the object is to be held under a lamp.
        lamps: lamps that can serve, as bits.
    """

    wanted: int
    needed: int
    want: int
    verb: str
    treats: tuple[int, ...]
    targets: tuple[int, ...]
    lamps: int


def aim_of(game: Game) -> Aim:
    """The aim of a game, kept with the game."""
    aim: Aim | None = game.aim
    if aim is None:
        game.aim = aim = _aim(game)
    return aim


def _aim(game: Game) -> Aim:
    wanted, needed, want, lamps = 0, 1, 0, 0
    targets: tuple[int, ...] = ()
    for recs, at_place, things, _ in game.goal:
        if at_place:
            lamps = things[0][0]
        elif recs is None:
            wanted = things[0][0]
        else:
            targets, wanted, want, needed = recs, things[0][0], things[0][1], len(things)
    verb, places = {CLEAN: ("clean", game.sinks), HOT: ("heat", game.heaters), COOL: ("cool", game.coolers)}.get(
        want, ("", 0)
    )
    return Aim(wanted, needed, want, verb, tuple(bits(places)), targets, lamps)


class _View:
    """What an expert believes: the world's state, its contents perhaps reduced to what is known."""

    __slots__ = ("aim", "contents", "fresh", "game", "held", "loc", "opened")

    def __init__(self, world: World, contents: list[int], treated: int) -> None:
        self.game = world.game
        self.aim = aim_of(world.game)
        self.loc, self.held, self.opened = world.loc, world.held, world.opened
        self.contents = contents
        self.fresh = treated
        """Wanted objects that have the wanted property, as bits."""

    def closed(self, r: int, opened: int) -> bool:
        return bool(self.game.openable & ~opened & (1 << r))

    def cost(self, deeds: Iterable[Deed], loc: int, opened: int) -> int:
        """Actions that a sequence of deeds takes."""
        total = 0
        rec_loc = self.game.rec_loc
        for verb, _, r in deeds:
            total += verb != "visit"
            if rec_loc[r] != loc:
                total += 1
                loc = rec_loc[r]
            if verb in ("take", "put") and self.closed(r, opened):
                total += 1
                opened |= 1 << r
        return total

    def nearest(self, places: Iterable[int], loc: int, opened: int) -> int:
        """The receptacle that takes the fewest actions to put something into; -1 if there is none."""
        best, found = NEVER, -1
        rec_loc = self.game.rec_loc
        openable = self.game.openable & ~opened
        for r in places:
            cost = (rec_loc[r] != loc) + (openable >> r & 1)
            if cost < best:
                best, found = cost, r
        return found

    def sources(self) -> list[tuple[int, int]]:
        """(wanted object, receptacle it can be taken from), as far as known."""
        game = self.game
        can = self.aim.wanted & game.pickupable
        return [(o, r) for r, inside in enumerate(self.contents) if inside & can for o in bits(inside & can)]

    def fetch(self, o: int, r: int) -> list[list[Deed]]:
        """Ways to get hold of an object that may be cheapest, putting down first what is held."""
        take: Deed = ("take", o, r)
        if self.held < 0:
            return [[take]]
        game = self.game
        fitting = [place for place in range(len(game.rec_loc)) if game.accepts[place] >> self.held & 1]
        goals = [place for place in fitting if place in self.aim.targets]  # to have opened one may pay later
        spot = game.rec_loc[r]
        options = {
            self.nearest(fitting, self.loc, self.opened),
            self.nearest(fitting, spot, self.opened | 1 << r),
            self.nearest(goals, self.loc, self.opened),
            *[place for place in game.here[spot] if place in fitting],
            *[place for place in game.here[self.loc] if place in goals],
        } - {-1}
        return [[("put", self.held, place), take] for place in sorted(options)]


def _after(view: _View, deeds: list[Deed]) -> tuple[int, int]:
    """Where one stands and what is open after some deeds."""
    loc, opened = view.loc, view.opened
    for verb, _, r in deeds:
        loc = view.game.rec_loc[r]
        if verb in ("take", "put"):
            opened |= 1 << r
    return loc, opened


def _with_treatment(view: _View, o: int, deeds: list[Deed]) -> list[list[Deed]]:
    """Deeds that end with holding `o`, continued by what gives it the wanted property."""
    if not view.aim.want or view.fresh >> o & 1:
        return [deeds]
    return [[*deeds, (view.aim.verb, o, place)] for place in view.aim.treats]


def _best(view: _View, ways: Iterable[list[Deed]]) -> list[Deed]:
    best, found = NEVER, []
    for way in ways:
        cost = view.cost(way, view.loc, view.opened)
        if cost < best:
            best, found = cost, way
    return found


def _holdings(view: _View) -> list[tuple[int, list[Deed]]]:
    """(wanted object, deeds that get hold of it)."""
    ways: list[tuple[int, list[Deed]]] = []
    if view.held >= 0 and view.aim.wanted >> view.held & 1:
        ways.append((view.held, []))
    for o, r in view.sources():
        ways += [(o, deeds) for deeds in view.fetch(o, r)]
    return ways


def _plan_one(view: _View) -> list[Deed]:
    """Bring one wanted object to a target."""
    ways = []
    for o, deeds in _holdings(view):
        left = deeds[-1][2] if deeds else -1
        stays = any(view.contents[r] >> o & 1 for r in view.aim.targets if r != left)
        for way in _with_treatment(view, o, deeds):
            if stays:  # it lies in two receptacles, and the other one is a target
                ways.append(way)
                continue
            r = view.nearest(view.aim.targets, *_after(view, way))
            if r >= 0:
                ways.append([*way, ("put", o, r)])
    return _best(view, ways)


def _plan_light(view: _View, lit: int) -> list[Deed]:
    """Hold a wanted object at the place of a lamp that is on."""
    can = view.aim.lamps
    lamps = [(o, r) for r, inside in enumerate(view.contents) if inside & can for o in bits(inside & can)]
    ways: list[list[Deed]] = []
    for _, deeds in _holdings(view):
        for lamp, r in lamps:
            ways.append([*deeds, ("visit" if lit >> lamp & 1 else "use", lamp, r)])
    return _best(view, ways)


def _plan_two(view: _View) -> list[Deed]:
    """Bring two wanted objects into one target."""
    aim, game = view.aim, view.game
    holdings = _holdings(view)
    sources = view.sources()
    spots = {view.loc, *(game.rec_loc[r] for _, r in sources)}
    ways: list[list[Deed]] = []
    alike: set[tuple[int, bool, int]] = set()
    for r in aim.targets:
        there = view.contents[r] & aim.wanted
        loc = game.rec_loc[r]
        like = (loc if loc in spots else -1, view.closed(r, view.opened), there)
        if like in alike:
            continue
        alike.add(like)
        for o, deeds in holdings:
            if there >> o & 1 or (deeds and deeds[-1][2] == r):
                continue
            first: list[Deed] = [*deeds, ("put", o, r)]
            if there:
                ways.append(first)
                continue
            ways += [[*first, ("take", o2, r2), ("put", o2, r)] for o2, r2 in sources if o2 != o and r2 != r]
    return _best(view, ways)


def _plan_first_of_two(view: _View) -> list[Deed]:
    """Bring one wanted object to a target while the other is not known yet; to the one that has most already."""
    aim = view.aim
    most = max((view.contents[r] & aim.wanted).bit_count() for r in aim.targets)
    best = [r for r in aim.targets if (view.contents[r] & aim.wanted).bit_count() == most]
    ways = []
    for o, deeds in _holdings(view):
        if any(view.contents[r] >> o & 1 for r in best):
            continue
        r = view.nearest(best, *_after(view, deeds))
        ways.append([*deeds, ("put", o, r)])
    return _best(view, ways)


def _plan(view: _View, lit: int) -> list[Deed]:
    if view.aim.lamps or not view.aim.targets:
        return _plan_light(view, lit)
    return _plan_two(view) if view.aim.needed == 2 else _plan_one(view)


def _command(view: _View, deed: Deed) -> str:
    """The next action towards a deed."""
    verb, o, r = deed
    game, w = view.game, view.game.wording
    place = game.rec_names[r]
    if game.rec_loc[r] != view.loc:
        return f"{w.goto[0]}{place}{w.goto[1]}"
    if verb in ("take", "put", "open") and view.closed(r, view.opened):
        return f"{w.open[0]}{place}{w.open[1]}"
    if verb in ("open", "visit"):
        return f"{w.examine[0]}{place}{w.examine[1]}"
    if verb == "use":
        return f"{w.use[0]}{game.obj_names[o]}{w.use[1]}"
    before, between, after = getattr(w, verb)
    return f"{before}{game.obj_names[o]}{between}{place}{after}"


def _having(world: World, objects: int, want: int) -> int:
    """Which of some objects have the properties, as bits."""
    flags = world.flags
    return sum(1 << o for o in bits(objects) if flags[o] & want == want)


def oracle(world: World) -> str | None:
    """The first action of a shortest plan from this state; None where no plan exists."""
    aim = aim_of(world.game)
    view = _View(world, world.contents, _having(world, aim.wanted, aim.want))
    deeds = _plan(view, _having(world, aim.lamps, TOGGLED))
    return _command(view, deeds[0]) if deeds else None


def explorer(world: World) -> str | None:
    """What someone would do who has read the answers so far; None when everything was seen and nothing helps."""
    game, aim = world.game, aim_of(world.game)
    handled = sum(1 << o for o in world.moved)
    seen = world.seen
    contents = [inside if seen >> r & 1 else inside & handled for r, inside in enumerate(world.contents)]
    view = _View(world, contents, _having(world, aim.wanted & world.known, aim.want))
    deeds = _plan(view, _having(world, aim.lamps, TOGGLED))
    if not deeds and aim.needed == 2:
        deeds = _plan_first_of_two(view)
    holds_wanted = world.held >= 0 and bool(aim.wanted >> world.held & 1)
    if not deeds and aim.lamps and not holds_wanted:
        deeds = _best(view, [way for _, way in _holdings(view)])
    if deeds:
        return _command(view, deeds[0])
    if world.held >= 0 and not holds_wanted:
        here = [
            r for r in game.here[world.loc] if game.accepts[r] >> world.held & 1 and not view.closed(r, view.opened)
        ]
        if here:
            return _command(view, ("put", world.held, here[0]))
    sought = aim.lamps if aim.lamps and holds_wanted else aim.wanted
    r = _most_promising(view, sought, seen)
    return _command(view, ("open", -1, r)) if r >= 0 else None


def _most_promising(view: _View, sought: int, seen: int) -> int:
    """The unseen receptacle with the best chance per action of holding something sought; -1 if all were seen."""
    game = view.game
    if not sought:
        return -1
    rates = _rates(game, game.obj_types[sought.bit_length() - 1])
    best, found = 0.0, -1
    for r, rate in enumerate(rates):
        if not seen >> r & 1:
            value = rate / max((game.rec_loc[r] != view.loc) + view.closed(r, view.opened), 1)
            if value > best:
                best, found = value, r
    return found


def _rates(game: Game, kind: str) -> list[float]:
    """For each receptacle the chance that it holds an object of a type, kept with the game."""
    found = game.rates.get(kind)
    if found is None:
        rooms = tables.load()["rooms"]
        name = kind.removesuffix("type")
        here = rooms[tables.room_of(game.rec_types)]["rates"].get(name)
        if here is None:
            here = {}
            for room in rooms.values():
                for rec, rate in room["rates"].get(name, {}).items():
                    here[rec] = max(rate, here.get(rec, 0.0))
        found = [max(here.get(rec.removesuffix("type"), 0.0), UNHEARD_OF) for rec in game.rec_types]
        game.rates[kind] = found
    return found
