"""`stepagent bench webshop`: speed and memory at any size of shop, and what the experts reach."""

from __future__ import annotations

import json
import multiprocessing
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym

import stepagent_envs  # noqa: F401  (registers the ids)
from stepagent_envs.errors import DataError
from stepagent_envs.intervals import wilson
from stepagent_envs.webshop.env import WebShopEnv
from stepagent_envs.webshop.goals import unit_hash

__all__ = ["bench"]

Row = tuple[str, str, str, str]

ORIGINAL = {"cold start": 9.3, "search": 0.050, "click": 0.030, "buy": 0.046, "refused": 0.026, "reset": 0.0067}
"""Seconds of the original with 1,000 products, medians, two quiet cores (pyserini 0.17.0, Flask 2.1.2)."""

_ORIGINAL_MEMORY = 570.0

_COLD = """
import json, resource, sys, time
start = time.perf_counter()
import gymnasium, stepagent_envs
imported = time.perf_counter()
env = gymnasium.make("StepAgent-WebShop-v0", data=sys.argv[1], disable_env_checker=True)
env.reset(seed=0)
print(json.dumps([imported - start, time.perf_counter() - start]))
"""


def bench(
    data: tuple[str, ...] = ("builtin",),
    rounds: int = 300,
    workers: int = 8,
    cold_starts: int = 5,
    experts: int = 0,
    split: str = "test",
    seed: int = 0,
) -> list[Row]:
    """Measure a shop's speed and memory, and, when asked, its experts.

    Args:
        data: data sets to measure: "builtin", "builtin:100000", "builtin:1180000", "official" or a folder. A built-in
            shop of another size is made first, which takes minutes for a million products.
        rounds: how often each action is timed.
        workers: processes that search one store at once, for memory.
        cold_starts: fresh processes, from `import` to the first observation.
        experts: episodes that random, shopper and oracle play; 0 leaves them out.
        split: tasks of those episodes, the first ones.
        seed: of the choice of goals.

    Returns:
        Rows of (what, ours, original, ratio); medians, with the 95th percentile.
    """
    rows: list[Row] = []
    for name in data:
        env = _make(name)
        small = env.shop.catalogue.info.products <= 1000
        prefix = f"{name}: " if len(data) > 1 or name != "builtin" else ""
        measured = {"cold start": _cold(name, cold_starts), **_actions(env, rounds, seed)}
        rows += [
            _row(prefix + what, seconds, ORIGINAL.get(what) if small else None) for what, seconds in measured.items()
        ]
        rows.append(_snapshots(env, prefix))
        if workers:
            rows.append(_memory(name, prefix, workers, seed, small))
        if experts:
            rows += [_expert(env, prefix, name, split, experts, seed) for name in ("random", "shopper", "oracle")]
        env.close()
    return rows


def _make(data: str) -> WebShopEnv:
    env = gym.make("StepAgent-WebShop-v0", data=data, disable_env_checker=True).unwrapped
    assert isinstance(env, WebShopEnv)
    return env


def _text(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def _row(what: str, seconds: Sequence[float], original: float | None) -> Row:
    middle = statistics.median(seconds)
    ordered = sorted(seconds)
    ours = f"{_text(middle)} (95 %: {_text(ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)])})"
    return what, ours, _text(original) if original else "", f"{original / middle:,.0f}" if original else ""


def _cold(data: str, times: int) -> list[float]:
    """Seconds from a fresh process's first import to the first observation."""
    found = []
    for _ in range(times):
        done = subprocess.run([sys.executable, "-c", _COLD, data], capture_output=True, text=True, check=False)
        if done.returncode:
            raise DataError(f"the measuring process failed: {done.stderr.strip().splitlines()[-1]}")
        found.append(float(json.loads(done.stdout)[1]))
    return found


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _some_ids(env: WebShopEnv, count: int, seed: int) -> list[str]:
    tasks = env.tasks("all")
    return [tasks[int(unit_hash("bench", seed, i) * len(tasks))].id for i in range(count)]


def _actions(env: WebShopEnv, rounds: int, seed: int) -> dict[str, list[float]]:
    """Seconds of each kind of action; every search is a new one (its results are not in memory yet)."""
    seconds: dict[str, list[float]] = {name: [] for name in ("reset", "search", "click", "refused", "buy")}
    rng = random.Random(seed)
    env.shop.catalogue.find_rows.cache_clear()
    for task_id in _some_ids(env, rounds, seed):
        reset: dict[str, Any] = {"task_id": task_id}
        seconds["reset"].append(_timed(lambda reset=reset: env.reset(options=reset)))  # type: ignore[misc]
        query = env.admissible_actions()[0]
        seconds["search"].append(_timed(lambda query=query: env.step(query)))  # type: ignore[misc]
        links = [action for action in env.admissible_actions() if action not in _BUTTONS]
        if not links:
            continue
        link = rng.choice(links)
        seconds["click"].append(_timed(lambda link=link: env.step(link)))  # type: ignore[misc]
        seconds["refused"].append(_timed(lambda: env.step("nonsense")))
        seconds["buy"].append(_timed(lambda: env.step("click[buy now]")))
    return seconds


_BUTTONS = ("click[back to search]", "click[next >]", "click[< prev]")


def _snapshots(env: WebShopEnv, prefix: str) -> Row:
    env.reset(seed=0)
    env.step(env.admissible_actions()[0])
    here = env.snapshot()
    parts = []
    for call in (env.snapshot, lambda: env._load(here.task, here.world), env.state_key):
        parts.append(f"{_timed(lambda call=call: [call() for _ in range(1000)]) * 1e3:.1f} µs")  # type: ignore[misc]
    return f"{prefix}snapshot / set state / state key", " / ".join(parts), "", ""


def _private_memory() -> float | None:
    """Private memory of this process in MB (memory-mapped files, which processes share, apart); Linux only."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as file:
            sizes = {line.split(":")[0]: int(line.split()[1]) for line in file if "_" in line.split(":")[0]}
    except (OSError, ValueError, IndexError):
        return None
    return (sizes.get("Private_Clean", 0) + sizes.get("Private_Dirty", 0)) / 1024


def _worker(data: str, seed: int, searches: int) -> float | None:
    env = _make(data)
    for task_id in _some_ids(env, searches, seed):
        env.reset(options={"task_id": task_id})
        env.step(env.admissible_actions()[0])
    return _private_memory()


def _memory(data: str, prefix: str, workers: int, seed: int, small: bool) -> Row:
    """Private memory of worker processes after 100 searches each, all alive at once."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        found = pool.starmap(_worker, [(data, seed + i, 100) for i in range(workers)], chunksize=1)
    sizes = [size for size in found if size is not None]
    what = f"{prefix}private memory of each of {workers} workers"
    if not sizes:
        return what, "not told by this system", "", ""
    original = f"{_ORIGINAL_MEMORY:.0f} MB" if small else ""
    ratio = f"{_ORIGINAL_MEMORY / statistics.mean(sizes):.1f}" if small else ""
    return what, f"{statistics.mean(sizes):.0f} MB (most: {max(sizes):.0f} MB)", original, ratio


def _expert(env: WebShopEnv, prefix: str, name: str, split: str, episodes: int, seed: int) -> Row:
    """Success, score and length of an expert's (or the random policy's) episodes."""
    ids = env.tasks(split)[:episodes].ids
    wins, scores, steps = 0, [], []
    for task_id in ids:
        rng = random.Random(f"{seed} {task_id}")
        _, info = env.reset(options={"task_id": task_id})
        while info["end_reason"] is None:
            action = rng.choice(info["admissible_actions"]) if name == "random" else env.expert_action(name)
            _, _, _, _, info = env.step(action or "")
        wins += info["success"]
        scores.append(info["score"])
        steps.append(info["steps"])
    low, high = wilson(wins, len(ids))
    told = (
        f"success {100 * wins / len(ids):.1f} % [{100 * low:.1f}, {100 * high:.1f}], "
        f"score {statistics.mean(scores):.3f}, {statistics.mean(steps):.1f} steps"
    )
    return f"{prefix}{name} on {len(ids)} tasks of {split}", told, "", ""
