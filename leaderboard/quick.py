"""The job behind `make leaderboard`: train small agents on each built-in world, judge them beside random and expert.

All learners start from the same checkpoint, which imitates the expert (sft). Everything is resumed: a checkpoint that is
there is not made again, an episode that was judged stays judged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from leaderboard.agents import AgentSpec
from leaderboard.benchmark import load_benchmark
from leaderboard.board import Board
from leaderboard.progress import Bars
from leaderboard.report import write_report
from leaderboard.runner import RunOptions, run_benchmark
from leaderboard.training import TrainJob, train_all

__all__ = ["AGENTS", "LEARNERS", "START", "quick", "quick_jobs"]

AGENTS = ("random", "expert")
"""Registered agents that are judged beside the trained ones."""
START = "sft"
"""The algorithm that makes the checkpoint which the others start from."""
LEARNERS = (START, "eto", "stepagent-implicit", "stepagent-inverse")
Say = Callable[[str], None]


def quick_jobs(benchmark: str, checkpoints: Path) -> list[TrainJob]:
    """The trainings of the quick job, `checkpoints/<algorithm>/<world>` each."""
    sections = load_benchmark(benchmark).worlds
    start = {section.world: checkpoints / START / section.world for section in sections}
    jobs = [TrainJob(section, START, start[section.world]) for section in sections]
    return jobs + [
        TrainJob(section, name, checkpoints / name / section.world, start[section.world])
        for name in LEARNERS[1:]
        for section in sections
    ]


def quick(out: Path, benchmark: str = "quick-v1", say: Say = lambda line: None) -> tuple[Board, Path]:
    """Train, judge, report.

    Args:
        out: checkpoints go to `out/quick/<algorithm>/<world>`, runs and page to `out/leaderboard/<benchmark>`.
        benchmark: what to judge on.
        say: told what happens.

    Returns:
        The board, and the path of the page.
    """
    frozen = load_benchmark(benchmark)
    runs, checkpoints = out / "leaderboard" / frozen.id, out / "quick"
    train_all(quick_jobs(benchmark, checkpoints), say)
    agents = {name: AgentSpec(name) for name in AGENTS}
    agents |= {name: AgentSpec((checkpoints / name).as_posix() + "/{world}", {"threads": 1}) for name in LEARNERS}
    for name, agent in agents.items():
        learned = "expert traces of each world's built-in train split" if name in LEARNERS else None
        with Bars(name) as bars:
            run_benchmark(frozen, agent, runs / name, RunOptions(name=name, trained_on=learned), bars)
    return write_report([runs], runs / "site", expert=True, say=say)
