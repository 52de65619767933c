"""`stepagent bench alfworld`: our engine and the original on the same games, in one run."""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym

import stepagent_envs  # noqa: F401  (registers the ids)
from stepagent_envs.alfworld.env import ALFWorldEnv
from stepagent_envs.alfworld.reference import Original
from stepagent_envs.alfworld.sources import open_source
from stepagent_envs.errors import DataError

__all__ = ["bench"]

Row = tuple[str, str, str, str]


def bench(
    data: str = "builtin",
    games: int = 10,
    steps: int = 40,
    envs: tuple[int, ...] = (1, 2, 64, 1024),
    episodes: tuple[int, ...] = (10, 1000),
    original: bool = True,
    seed: int = 0,
) -> list[Row]:
    """Measure load, reset, step, memory and throughput.

    Args:
        data: "builtin", "official" or a path.
        games: games played on both engines.
        steps: random admissible actions in each of them.
        envs: numbers of environments in one process, for steps per second and memory.
        episodes: numbers of whole episodes (the explorer's), for growth of memory and time.
        original: measure the original engine too, where it is installed (extra `textworld`).
        seed: of the choice of games and actions.

    Returns:
        Rows of (what, ours, original, ratio); medians unless said otherwise.
    """
    env = _make(data)
    unwrapped: ALFWorldEnv = env.unwrapped  # type: ignore[assignment]
    rng = random.Random(seed)
    ids = [task.id for task in unwrapped.tasks("all")]
    chosen = rng.sample(ids, min(games, len(ids)))
    ours = _play(chosen, steps, seed, lambda task_id: _Ours(env, task_id))
    theirs: dict[str, list[float]] = {}
    if original:
        try:
            theirs = _play(chosen, steps, seed, lambda task_id: _Theirs(data, task_id))
        except DataError:
            theirs = {}
    rows = [_compare(name, ours[name], theirs.get(name)) for name in ours]
    rows.append(_snapshots(env, chosen[0], seed))
    rows += [_many(data, n, ids, seed) for n in envs]
    rows += [_long(data, n, ids, seed) for n in episodes]
    env.close()
    return rows


def _make(data: str) -> gym.Env[str, str]:
    made: gym.Env[str, str] = gym.make("StepAgent-ALFWorld-v0", data=data, disable_env_checker=True)
    return made


class _Ours:
    """A game on our engine, through `gym.make`."""

    def __init__(self, env: gym.Env[str, str], task_id: str) -> None:
        self.env, self.task_id = env, task_id
        unwrapped: ALFWorldEnv = env.unwrapped  # type: ignore[assignment]
        source = unwrapped._source
        source.game.cache_clear()
        source.game(task_id.split(":", 2)[2])

    def reset(self) -> list[str]:
        _, info = self.env.reset(options={"task_id": self.task_id})
        found: list[str] = info["admissible_actions"]
        return found

    def step(self, action: str) -> tuple[list[str], bool]:
        _, _, terminated, truncated, info = self.env.step(action)
        return info["admissible_actions"], terminated or truncated


class _Theirs:
    """The same game on the original engine."""

    def __init__(self, data: str, task_id: str) -> None:
        self.game = Original(open_source(data).raw(task_id.split(":", 2)[2]))

    def reset(self) -> list[str]:
        self.game.reset()
        return self.game.admissible()

    def step(self, action: str) -> tuple[list[str], bool]:
        self.game.act(action)
        return self.game.admissible(), self.game.won()


def _play(ids: list[str], steps: int, seed: int, open_game: Callable[[str], Any]) -> dict[str, list[float]]:
    """Seconds of every load, reset and step (the last with its list of admissible actions)."""
    seconds: dict[str, list[float]] = {"load": [], "reset": [], "step": []}
    clock = time.perf_counter
    for task_id in ids:
        rng = random.Random(f"{seed} {task_id}")
        start = clock()
        game = open_game(task_id)
        seconds["load"].append(clock() - start)
        start = clock()
        admissible = game.reset()
        seconds["reset"].append(clock() - start)
        for _ in range(steps):
            action = rng.choice(admissible)
            start = clock()
            admissible, ended = game.step(action)
            seconds["step"].append(clock() - start)
            if ended:
                break
    return seconds


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"


def _compare(name: str, ours: list[float], theirs: list[float] | None) -> Row:
    median = statistics.median(ours)
    spread = f" (95 %: {_time(sorted(ours)[int(len(ours) * 0.95)])})" if len(ours) > 20 else ""
    if not theirs:
        return (name, _time(median) + spread, "not installed", "")
    other = statistics.median(theirs)
    return (name, _time(median) + spread, _time(other), f"{other / median:,.0f}")


def _snapshots(env: gym.Env[str, str], task_id: str, seed: int) -> Row:
    """Snapshot, restore and state key in the middle of an episode."""
    unwrapped: ALFWorldEnv = env.unwrapped  # type: ignore[assignment]
    rng = random.Random(seed)
    _, info = env.reset(options={"task_id": task_id})
    for _ in range(8):
        _, _, terminated, _, info = env.step(rng.choice(info["admissible_actions"]))
        if terminated:
            _, info = env.reset(options={"task_id": task_id})
    snapshot = unwrapped.snapshot()
    parts = []
    for call in (unwrapped.snapshot, lambda: unwrapped._load(snapshot.task, snapshot.world), unwrapped.state_key):
        start = time.perf_counter()
        for _ in range(1000):
            call()
        parts.append(_time((time.perf_counter() - start) / 1000))
    return ("snapshot / set state / state key", " / ".join(parts), "none", "")


def _memory() -> float | None:
    """Resident memory in MB, where the system tells."""
    if sys.platform != "linux":
        return None
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return None


def _grown(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f", {after:.0f} MB ({after - before:+.1f})"


def _many(data: str, count: int, ids: list[str], seed: int, rounds: int = 20) -> Row:
    """Steps per second with `count` environments in one process, each on its own game."""
    rng = random.Random(seed)
    before = _memory()
    made = [_make(data) for _ in range(count)]
    lists = []
    for i, env in enumerate(made):
        _, info = env.reset(options={"task_id": ids[i % len(ids)]})
        lists.append(info["admissible_actions"])
    total = max(rounds, 2000 // count)
    start = time.perf_counter()
    for _ in range(total):
        for i, env in enumerate(made):
            _, _, terminated, truncated, info = env.step(rng.choice(lists[i]))
            if terminated or truncated:
                _, info = env.reset(options={"task_id": ids[i % len(ids)]})
            lists[i] = info["admissible_actions"]
    rate = total * count / (time.perf_counter() - start)
    row = (f"{count} environments", f"{rate:,.0f} steps/s{_grown(before, _memory())}", "", "")
    for env in made:
        env.close()
    return row


def _long(data: str, episodes: int, ids: list[str], seed: int) -> Row:
    """Whole episodes of the explorer, one after another: does anything grow?"""
    env = _make(data)
    unwrapped: ALFWorldEnv = env.unwrapped  # type: ignore[assignment]
    rng = random.Random(seed)
    marks = []
    before = _memory()
    for part in range(2):
        steps, start = 0, time.perf_counter()
        for _ in range(max(episodes // 2, 1)):
            env.reset(options={"task_id": rng.choice(ids)})
            ended = False
            while not ended:
                action = unwrapped.expert_action()
                _, _, terminated, truncated, _ = env.step(action or "look")
                steps += 1
                ended = terminated or truncated
        marks.append((time.perf_counter() - start) / steps)
        if part == 0:
            before = _memory()
    env.close()
    told = f"{_time(marks[0])} then {_time(marks[1])} a step, reset and expert included{_grown(before, _memory())}"
    return (f"{episodes} episodes", told, "", "")
