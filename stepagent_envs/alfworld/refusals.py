"""Why a command was refused, in a sentence that helps without telling what has not been seen."""

from __future__ import annotations

from stepagent_envs.alfworld.engine import World

__all__ = ["explain"]


def explain(world: World, action: str) -> str:
    """One line on what is wrong with an action that `World.act` refused."""
    game, w = world.game, world.game.wording
    command = action.strip()
    if not command:
        return "an empty action"
    shown = ascii(command if len(command) <= 60 else command[:57] + "...")[1:-1]
    entry = game.verbs.get(command.partition(" ")[0])
    if entry is None:
        verbs = ", ".join([parts[0].strip() for parts in game.verbs.values()] + game.always)
        return f"{shown!r} is no command; commands start with: {verbs}"
    before, between, after, _ = entry
    usage = before + (f"OBJECT{between}PLACE" if between else "PLACE") + after
    rest = command[len(before) :]
    if not command.startswith(before) or not rest or (between and between not in rest):
        return f"{shown!r} is not complete; it is written: {usage}"
    if before == w.goto[0]:
        return _goto(world, rest)
    if before == w.use[0]:
        return f"there is no {_short(rest)} to be used here"
    if before == w.examine[0]:
        return f"{_short(rest)} is neither here nor in your hand"
    if before == w.slice[0]:
        return "slicing takes a knife in your hand and something sliceable here"
    if not between:
        return _place(world, rest) or f"{rest} cannot be {'opened' if before == w.open[0] else 'closed'} now"
    thing, _, place = rest.partition(between)
    return _place(world, place) or _thing(world, before, thing, place)


def _short(name: str) -> str:
    return ascii(name if len(name) <= 40 else name[:37] + "...")[1:-1]


def _goto(world: World, place: str) -> str:
    r = world.game.rec_index.get(place)
    if r is None:
        return f"there is no place {_short(place)!r} in this room"
    return f"you are at {place} already"


def _place(world: World, place: str) -> str | None:
    r = world.game.rec_index.get(place)
    if r is None:
        return f"there is no place {_short(place)!r} in this room"
    if world.game.rec_loc[r] != world.loc:
        return f"you are not at {place}; go there first"
    return None


def _thing(world: World, before: str, thing: str, place: str) -> str:
    game, w = world.game, world.game.wording
    r = game.rec_index[place]
    closed = game.openable >> r & 1 and not world.opened >> r & 1
    held = game.obj_names[world.held] if world.held >= 0 else None
    if before == w.take[0]:
        if held is not None:
            return f"you hold {held} already, and one thing is all you can hold"
        if closed:
            return f"{place} is closed; open it first"
        o = game.obj_index.get(thing)
        if o is None or not world.contents[r] >> o & 1:
            return f"you see no {_short(thing)} there"
        return f"{thing} cannot be taken"
    if held != thing:
        return f"you do not hold {_short(thing)}" + (f", you hold {held}" if held else "")
    if before == w.put[0]:
        return f"{place} is closed; open it first" if closed else f"{thing} does not belong in or on {place}"
    return f"{thing} cannot be treated that way with {place}"
