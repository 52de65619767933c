"""What the thresholds of HotSpot's second compiler cost: `python docs/environments/scienceworld_compilers.py`.

CPU seconds of a young simulator: expert episodes of ETO's unseen variations, one environment, templates in `info`; a
new JVM for each line.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import gymnasium

import stepagent_envs  # noqa: F401  (registers the environments)
from stepagent_envs.scienceworld import simulator

MARKS = (1, 10, 25, 100)
PLAIN = tuple(flag for flag in simulator.JVM_FLAGS if "Tier4" not in flag)
KINDS = {
    "ours": simulator.JVM_FLAGS,
    "HotSpot's own": PLAIN,
    "first compiler only": (*PLAIN, "-XX:TieredStopAtLevel=1"),
}


def java_seconds() -> float:
    """CPU seconds of this process's JVMs (Linux)."""
    spent = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text(encoding="utf-8").partition("(")[2].rpartition(")")
        except OSError:  # it has ended
            continue
        fields = rest.split()
        if name == "java" and int(fields[1]) == os.getpid():
            spent += int(fields[11]) + int(fields[12])
    return spent / os.sysconf("SC_CLK_TCK")


def measure() -> list[float]:
    """CPU seconds of a new JVM after the numbers of episodes in `MARKS`."""
    env = gymnasium.make(
        "StepAgent-ScienceWorld-v0", split="eto_unseen", max_steps="eto", admissible="templates", expert=True
    )
    tasks = list(env.unwrapped.tasks("eto_unseen").ids)
    random.Random(0).shuffle(tasks)
    found = []
    for number, task in enumerate(tasks[: MARKS[-1]], 1):
        _, info = env.reset(options={"task_id": task})
        while info["end_reason"] is None:
            *_, info = env.step(info["expert_action"])
        if number in MARKS:
            found.append(java_seconds())
    env.close()
    simulator.close_idle()
    return found


def main(turns: int = 2) -> None:
    """Measure and tell."""
    print("flags, then CPU seconds after", *MARKS, "episodes")
    for _ in range(turns):
        for name, flags in KINDS.items():
            simulator.JVM_FLAGS = flags
            print(f"{name:20}", *(f"{seconds:6.1f}" for seconds in measure()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
