"""How far the expert's way back to its path reaches: `python -m stepagent_envs.scienceworld.reach --episodes 100`.

Each episode follows a gold path of a split up to a drawn place, takes a few drawn actions, and then whatever the expert
says. Told are the share of states after those actions where it has an answer, and the share of those that end solved.
"""

from __future__ import annotations

import argparse
import random
import re
import sys

from stepagent_envs.scienceworld.env import ScienceWorldEnv

__all__ = ["main", "stray"]

_WANDERING = re.compile(r"(?:go|teleport|look|wait1|open|close|activate|deactivate)\b")


def stray(env: ScienceWorldEnv, task_id: str, away: int, wandering: bool, rng: random.Random) -> tuple[bool, bool]:
    """Play one episode.

    Args:
        away: actions drawn from the list of admissible ones (without "focus on", which ends most tasks).
        wandering: draw only moves, looks, short waits and switches.

    Returns:
        Whether the expert had an answer after them, and whether the task was solved then.
    """
    env.reset(options={"task_id": task_id})
    path = env._follower.path
    for step in path[: rng.randrange(len(path))]:
        env.step(step)
    for _ in range(away):
        listed = [action for action in env.admissible_actions() if not action.startswith("focus")]
        if wandering:
            listed = [action for action in listed if _WANDERING.match(action)]
        if env.step(rng.choice(listed))[4]["end_reason"] is not None:
            return False, False
    answered = env.expert_action() is not None
    while (action := env.expert_action()) is not None:
        info = env.step(action)[4]
        if info["end_reason"] is not None:
            return answered, info["success"]
    return answered, False


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m stepagent_envs.scienceworld.reach", description=__doc__)
    parser.add_argument("--episodes", type=int, default=100, help="of each kind and length")
    parser.add_argument("--split", default="test")
    options = parser.parse_args(arguments)
    env = ScienceWorldEnv(split=options.split, admissible=False, max_steps=1000)
    ids = env.tasks(options.split).ids
    for wandering in (True, False):
        for away in (1, 2, 5, 10):
            rng = random.Random(away)
            results = [stray(env, rng.choice(ids), away, wandering, rng) for _ in range(options.episodes)]
            answered, solved = (sum(column) for column in zip(*results, strict=True))
            kind = "wandering" if wandering else "any"
            sys.stdout.write(f"{kind}, {away}: answered {answered} of {len(results)}, of these solved {solved}\n")
            sys.stdout.flush()
    env.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
