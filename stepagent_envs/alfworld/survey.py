"""What the documentation says in figures: how experts and chance do on every split, and what the games are made of.

python -m stepagent_envs.alfworld.survey --data official
"""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Callable
from functools import partial

from stepagent_envs.alfworld.engine import Game, World
from stepagent_envs.alfworld.experts import explorer, oracle
from stepagent_envs.alfworld.goal import TASK_TYPES
from stepagent_envs.alfworld.sources import Source, open_source
from stepagent_envs.alfworld.tables import ROOMS
from stepagent_envs.intervals import wilson

__all__ = ["games_table", "main", "players_table"]

Row = tuple[str, ...]
STEP_LIMIT = 50


def _chance(rng: random.Random, world: World) -> str:
    return rng.choice(world.admissible())


def _play(game: Game, act: Callable[[World], str | None], detour: int, rng: random.Random) -> int | None:
    """Actions to the goal after a detour of random ones, or None."""
    world = World(game)
    for _ in range(detour):
        if not world.won():
            world.act(rng.choice(world.admissible()))
    for steps in range(STEP_LIMIT + 1):
        if world.won():
            return steps
        action = act(world)
        if action is None:
            return None
        world.act(action)
    return None


def players_table(source: Source, seed: int = 0, detour: int = 10) -> list[Row]:
    """Split, player, solved within 50 actions with interval, mean and longest successful length."""
    rows: list[Row] = []
    players: tuple[tuple[str, Callable[[World], str | None] | None, int], ...] = (
        ("oracle", oracle, 0),
        ("explorer", explorer, 0),
        (f"oracle after {detour} random actions", oracle, detour),
        (f"explorer after {detour} random actions", explorer, detour),
        ("random admissible actions", None, 0),
    )
    for split in source.splits:
        for name, expert, actions in players:
            rng = random.Random(seed)
            act = expert or partial(_chance, rng)
            found = [_play(source.game(game), act, actions, rng) for game in source.splits[split]]
            lengths = [steps for steps in found if steps is not None]
            low, high = wilson(len(lengths), len(found))
            mean = f"{statistics.mean(lengths):.2f}" if lengths else "-"
            longest = str(max(lengths)) if lengths else "-"
            solved = f"{len(lengths)}/{len(found)}"
            rows.append((split, name, solved, f"{100 * low:.1f}-{100 * high:.1f} %", mean, longest))
    return rows


def games_table(source: Source, split: str = "train") -> list[Row]:
    """For each kind of room: share of games, means of receptacles, of those that open, of objects, of the oracle."""
    by_room: dict[str, list[Game]] = {room: [] for room in ROOMS}
    kinds: Counter[str] = Counter()
    lengths: dict[str, list[int]] = {room: [] for room in ROOMS}
    for task in source.tasks(split):
        game = source.game(task.id.split(":", 2)[2])
        kinds[task.type] += 1
        room = task.metadata["room"]
        by_room[room].append(game)
        steps = _play(game, oracle, 0, random.Random(0))
        if steps is not None:
            lengths[room].append(steps)
    total = sum(kinds.values())
    rows: list[Row] = []
    for room, games in by_room.items():
        if games:
            means = [
                statistics.mean(values)
                for values in (
                    [len(game.rec_names) for game in games],
                    [game.openable.bit_count() for game in games],
                    [len(game.obj_names) for game in games],
                    lengths[room],
                )
            ]
            rows.append((room, f"{100 * len(games) / total:.1f} %", *[f"{mean:.1f}" for mean in means]))
    rows += [(kind, f"{100 * kinds[kind] / total:.1f} %", "", "", "", "") for kind in TASK_TYPES]
    return rows


def main(data: str = "builtin", seed: int = 0) -> None:
    """Print both tables.

    Args:
        data: "builtin", "official" or a path.
        seed: of the random actions.
    """
    from rich.console import Console
    from rich.table import Table

    source = open_source(data)
    console = Console()
    for title, heads, rows in (
        ("players", ("split", "player", "solved", "95 %", "mean", "longest"), players_table(source, seed)),
        ("train games", ("", "share", "receptacles", "that open", "objects", "oracle"), games_table(source)),
    ):
        table = Table(*heads, title=f"{source.name} ({source.hash[:12]}): {title}")
        for row in rows:
            table.add_row(*row)
        console.print(table)


if __name__ == "__main__":
    import tyro

    tyro.cli(main)
