"""Tunes learners with equal effort: the same few learning rates for each, one seed, judged on the dev split only.

    python -m leaderboard.tuning results-quick --worlds alfworld webshop

Each learner starts from one checkpoint, made with a seed that no benchmark uses, and is trained once for each factor on
its recipe's learning rate. What it reaches on the dev split stands in `OUT/tuning.jsonl`, one line a training; a
training that is there is not made again. The recipes (`baselines/recipes.py`) then hold the best factors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from leaderboard.benchmark import load_benchmark, restrict
from leaderboard.curves import METRICS, read_curve
from leaderboard.errors import AgentError
from leaderboard.experiments import START, Experiment, experiment, jobs
from leaderboard.provenance import describe_commit
from leaderboard.schema import Benchmark
from leaderboard.training import TrainJob, train_all

__all__ = ["SEED", "Trial", "main", "trials", "tune"]

SEED = 1000
"""Of all trainings; no benchmark has it as a run seed."""


@dataclass(frozen=True)
class Trial:
    """A training: which learner, with which factor on its learning rate."""

    row: str
    factor: float
    job: TrainJob


def trials(
    plan: Experiment, benchmark: Benchmark, out: Path, factors: Sequence[float], tasks: int
) -> tuple[list[TrainJob], list[Trial]]:
    """The trainings of the checkpoints to start from, and those that are compared."""
    benchmark = benchmark.model_copy(update={"seeds": [SEED]})
    starts: list[TrainJob] = []
    found: list[Trial] = []
    for learner in plan.learners:
        alone = replace(plan, learners=(learner,))
        for job in jobs(alone, benchmark, out):
            if learner.start is None:
                starts.append(job)
                continue
            for factor in factors:
                changes: dict[str, Any] = {"lr": job.config.lr * factor, "eval_every": 10_000, "eval_tasks": tasks}
                folder = job.folder.with_name(f"{job.folder.name}-{factor:g}")
                found.append(
                    Trial(learner.row, factor, replace(job, folder=folder, config=replace(job.config, **changes)))
                )
    needed = {trial.job.init for trial in found}
    return [job for job in starts if job.folder in needed], found


def tune(
    name: str,
    out: Path,
    worlds: Sequence[str] = (),
    rows: Sequence[str] = (),
    factors: Sequence[float] = (0.3, 1.0, 3.0),
    tasks: int = 60,
    workers: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[dict[str, Any]]:
    """Train what is missing and yield a record for each trial.

    Args:
        name: of the experiment.
        out: folder of checkpoints and records.
        worlds, rows: only these; () for all.
        factors: on the recipe's learning rate.
        tasks: of the dev split to judge on.
        workers: trainings at once; 0: as many as there are cores.
        say: told what happens.
    """
    plan = experiment(name)
    if rows:
        wanted = {START, *rows}
        plan = replace(plan, learners=tuple(learner for learner in plan.learners if learner.row in wanted))
    starts, found = trials(plan, restrict(load_benchmark(plan.benchmark), worlds), out / name, factors, tasks)
    train_all([*starts, *(trial.job for trial in found)], say, workers or None)
    commit = describe_commit().removeprefix(" at commit ")
    for trial in found:
        curve = read_curve(trial.job.folder / "training" / METRICS)
        if not curve:
            raise AgentError(f"{trial.job.folder}: its training has no evaluation")
        last = curve[-1]
        yield {
            "experiment": name,
            "world": trial.job.section.world,
            "row": trial.row,
            "factor": trial.factor,
            "lr": trial.job.config.lr,
            "success": last.success,
            "score": last.score,
            "tasks": tasks,
            "split": trial.job.config.eval_split,
            "seed": SEED,
            "commit": commit,
        }


@dataclass(frozen=True)
class Arguments:
    """Try a few learning rates for every learner of an experiment, on the dev split."""

    name: tyro.conf.Positional[str] = "results-quick"
    """The experiment."""
    out: Path = Path("runs/tuning")
    """Folder of checkpoints and of tuning.jsonl."""
    worlds: tuple[str, ...] = ()
    """Only these worlds."""
    rows: tuple[str, ...] = ()
    """Only these learners."""
    factors: tuple[float, ...] = (0.3, 1.0, 3.0)
    """Factors on the recipes' learning rates."""
    tasks: int = 60
    """Tasks of the dev split to judge on."""
    workers: int = 0
    """Trainings at once; 0: as many as there are cores."""


def main() -> None:
    """`python -m leaderboard.tuning`."""
    console = Console(soft_wrap=True)
    args = tyro.cli(Arguments, prog="python -m leaderboard.tuning")
    records = list(tune(**vars(args), say=lambda line: console.print(line, highlight=False, markup=False)))
    path = args.out / "tuning.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    for record in records:
        line = f"{record['world']:12} {record['row']:28} x{record['factor']:<4g} lr {record['lr']:.1e}"
        console.print(f"{line}  success {record['success']:.3f}  score {record['score']:.3f}", highlight=False)


if __name__ == "__main__":
    main()
