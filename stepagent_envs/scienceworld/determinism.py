"""Play episodes in two processes and compare: `python -m stepagent_envs.scienceworld.determinism --episodes 1000`.

Half of the episodes are gold paths, half actions drawn from the list of admissible ones, over all 30 tasks. The second
process plays them in the reverse order. What is compared: every observation, score and list of actions, and the last
state. Ends with 0 when all are equal, else with 1 and the first difference.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TypedDict

from stepagent_envs.scienceworld import catalogue
from stepagent_envs.scienceworld.env import ScienceWorldEnv

__all__ = ["Episode", "first_difference", "main", "play"]

LONGEST = 100
"""Actions of a gold path that are played."""
DRAWN = 15
"""Actions of an episode that draws them."""


class Episode(TypedDict):
    """What was played: the task, the actions, and after each one (and before the first) a hash of what was seen."""

    index: int
    task_id: str
    actions: list[str]
    seen: list[str]
    state: str


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def play(env: ScienceWorldEnv, index: int) -> Episode:
    """Play the episode of a number: which one it is depends on nothing else."""
    rng = random.Random(index)
    name = catalogue.task_types()[index % 30]
    golden = index // 30 % 2 == 0
    known = sorted(pair for pair in (catalogue.gold_paths() if golden else catalogue.pairs("all")) if pair[0] == name)
    pair = rng.choice(known)
    path = catalogue.gold_paths()[pair].actions[:LONGEST] if golden else ()
    task_id = f"scienceworld:{catalogue.VERSION}-easy:{pair[0]}/{pair[1]}"
    observation, info = env.reset(options={"task_id": task_id})
    episode = Episode(index=index, task_id=task_id, actions=[], seen=[_hash(observation, info["goal"])], state="")
    for i in range(len(path) if golden else DRAWN):
        listed = [] if golden else env.admissible_actions()
        action = path[i] if golden else rng.choice(listed)
        observation, _, terminated, truncated, info = env.step(action)
        episode["actions"].append(action)
        episode["seen"].append(_hash(listed, observation, info["raw_score"], info["success"]))
        if terminated or truncated:
            break
    episode["state"] = env.state_key()
    return episode


def first_difference(one: Episode, other: Episode) -> str | None:
    """Where two records of an episode part, in words; None where they do not."""
    for i, (seen, again) in enumerate(zip(one["seen"], other["seen"], strict=False)):
        if one["actions"][:i] != other["actions"][:i]:
            return f"{one['task_id']}: action {i} is {one['actions'][i - 1]!r} and {other['actions'][i - 1]!r}"
        if seen != again:
            return f"{one['task_id']}: after action {i} ({one['actions'][i - 1] if i else 'the start'!r})"
    return None if one == other else f"{one['task_id']}: in its end"


def _record(out: Path, indices: range) -> None:
    env = ScienceWorldEnv(admissible=False, max_steps=1000)
    with open(out, "w", encoding="utf-8") as file:
        for index in indices:
            file.write(json.dumps(play(env, index)) + "\n")
            file.flush()
    env.close()


def _read(path: Path) -> dict[int, Episode]:
    episodes: list[Episode] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {episode["index"]: episode for episode in episodes}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m stepagent_envs.scienceworld.determinism", description=__doc__)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="folder for the two records (default: a temporary one)")
    parser.add_argument("--play", choices=("forward", "backward"), help=argparse.SUPPRESS)  # the two processes
    options = parser.parse_args(arguments)
    if options.play:
        indices = range(options.episodes)
        _record(options.out / f"{options.play}.jsonl", indices if options.play == "forward" else indices[::-1])
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", __spec__.name, "--episodes", str(options.episodes), "--out", str(out)]
        processes = [subprocess.Popen([*command, "--play", order]) for order in ("forward", "backward")]
        codes = [process.wait() for process in processes]
        if any(codes):
            return 2
        one, other = _read(out / "forward.jsonl"), _read(out / "backward.jsonl")
    differences = [difference for i in one if (difference := first_difference(one[i], other[i]))]
    steps = sum(len(episode["actions"]) for episode in one.values())
    tasks = len({episode["task_id"].rsplit("/", 1)[0] for episode in one.values()})
    sys.stdout.write(f"{len(one)} episodes, {tasks} tasks, {steps} actions: {len(differences)} episodes differ\n")
    if differences:
        sys.stdout.write(f"first: {differences[0]}\n")
    return int(bool(differences))


if __name__ == "__main__":
    raise SystemExit(main())
