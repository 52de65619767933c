"""Experiments: which learners are trained, on what budgets, and on which benchmark they are judged.

All learners but the first start from the same checkpoint, which imitates the expert (sft), one for each run seed.
Everything is resumed: a checkpoint that is there is not made again, an episode that was judged stays judged.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from leaderboard.agents import AgentSpec
from leaderboard.benchmark import load_benchmark
from leaderboard.board import Board
from leaderboard.errors import AgentError
from leaderboard.executors import Processes
from leaderboard.progress import Bars
from leaderboard.report import write_report
from leaderboard.runner import RunOptions, run_benchmark
from leaderboard.schema import Benchmark, Section
from leaderboard.training import TrainJob, train_all
from stepagent_envs.errors import did_you_mean

__all__ = ["EXPERIMENTS", "Experiment", "Learner", "experiment", "jobs", "run"]

START = "sft"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Learner:
    """A row of a learner.

    Attributes:
        row: its name on the board.
        algorithm: of the registry.
        start: the row whose checkpoint it starts from; None: from nothing.
        changes: to the recipe's settings.
    """

    row: str
    algorithm: str
    start: str | None = START
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """What is trained and how it is judged.

    Attributes:
        name: also the folder of its checkpoints.
        benchmark: whose run seeds are also the seeds of the trainings.
        learners: in the order of training.
        agents: registered agents judged beside them.
        limits: env id -> settings of every learner that starts from a checkpoint (equal budgets).
    """

    name: str
    benchmark: str
    learners: tuple[Learner, ...]
    agents: tuple[str, ...] = ("random", "expert")
    limits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_SFT = Learner(START, "sft", None)
_MAIN = (
    Learner("eto", "eto"),
    Learner("stepagent-implicit", "stepagent-implicit"),
    Learner("stepagent-inverse", "stepagent-inverse"),
)
_OTHERS = (
    Learner("rft", "rft"),
    Learner("ppo", "ppo"),
    Learner("grpo", "grpo"),
    Learner("gigpo", "gigpo"),
    Learner("stepagent-implicit-on-policy", "stepagent-implicit", changes={"inspection": "on_policy"}),
    Learner("stepagent-inverse-on-policy", "stepagent-inverse", changes={"inspection": "on_policy"}),
)

EXPERIMENTS = {each.name: each for each in (Experiment("quick", "quick-v1", (_SFT, *_MAIN)),)}
"""Name -> experiment."""


def experiment(name: str) -> Experiment:
    """The experiment of a name."""
    if name not in EXPERIMENTS:
        raise AgentError(f"no experiment {name!r}; {did_you_mean(name, EXPERIMENTS)}")
    return EXPERIMENTS[name]


def jobs(plan: Experiment, benchmark: Benchmark, checkpoints: Path) -> list[TrainJob]:
    """The trainings, `checkpoints/<row>/<run seed>/<world>` each; those that others wait for come first."""
    worlds: dict[str, Section] = {}
    for section in benchmark.worlds:  # of the parts of a world ("alfworld-seen", …) the first: they train on the same
        worlds.setdefault(section.world.partition("-")[0], section)
    return [
        TrainJob(
            section,
            learner.algorithm,
            checkpoints / learner.row / str(seed) / world,
            None if learner.start is None else checkpoints / learner.start / str(seed) / world,
            _config(plan, learner, section, seed),
        )
        for learner in plan.learners
        for seed in benchmark.seeds
        for world, section in worlds.items()
    ]


def run(name: str, out: Path, workers: int = 0, say: Say = lambda line: None) -> tuple[Board, Path]:
    """Train, judge, report.

    Args:
        name: of the experiment.
        out: checkpoints go to `out/<name>/<row>/<run seed>/<world>`, runs and page to `out/leaderboard/<benchmark>`.
        workers: processes that train and judge; 0: as many as there are cores.
        say: told what happens.

    Returns:
        The board, and the path of the page.
    """
    plan = experiment(name)
    benchmark = load_benchmark(plan.benchmark)
    checkpoints, runs = out / plan.name, out / "leaderboard" / benchmark.id
    workers = workers or os.cpu_count() or 1
    train_all(jobs(plan, benchmark, checkpoints), say, workers)
    rows = {agent: AgentSpec(agent) for agent in plan.agents}
    for learner in plan.learners:
        rows[learner.row] = AgentSpec((checkpoints / learner.row).as_posix() + "/{seed}/{world}", {"threads": 1})
    learned = {learner.row for learner in plan.learners}
    for row, agent in rows.items():
        trained_on = "expert traces and episodes of each world's train split" if row in learned else None
        options = RunOptions(executor=Processes(workers), name=row, trained_on=trained_on)
        with Bars(row) as bars:
            run_benchmark(benchmark, agent, runs / row, options, bars)
    return write_report([runs], runs / "site", expert=True, say=say)


def _config(plan: Experiment, learner: Learner, section: Section, seed: int) -> Any:
    from baselines.recipes import RECIPES

    key = (learner.algorithm, section.env_id)
    if key not in RECIPES:
        raise AgentError(
            f"there is no recipe for {learner.algorithm} on {section.env_id}: baselines/recipes.py needs one"
        )
    limits = {} if learner.start is None else plan.limits.get(section.env_id, {})
    return replace(RECIPES[key], seed=seed, **{**limits, **learner.changes})
