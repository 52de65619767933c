"""The job behind `make leaderboard`: train a small agent on each built-in world, judge it beside random and expert.

Everything is resumed: a world whose checkpoint is there is not trained again, an episode that was judged stays judged.
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
from leaderboard.training import train_all

__all__ = ["AGENTS", "quick"]

AGENTS = ("random", "expert")
"""Registered agents that are judged beside the trained one."""
Say = Callable[[str], None]


def quick(out: Path, benchmark: str = "quick-v1", say: Say = lambda line: None) -> tuple[Board, Path]:
    """Train, judge, report.

    Args:
        out: checkpoints go to `out/quick/sft/<world>`, runs and page to `out/leaderboard/<benchmark>`.
        benchmark: what to judge on.
        say: told what happens.

    Returns:
        The board, and the path of the page.
    """
    frozen = load_benchmark(benchmark)
    runs = out / "leaderboard" / frozen.id
    rows: list[tuple[str, str, str | None]] = [(name, name, None) for name in AGENTS]
    train_all(frozen.worlds, "sft", out / "quick" / "sft", say)
    spec = (out / "quick" / "sft").as_posix() + "/{world}"
    rows.append(("sft", spec, "expert traces of each world's built-in train split"))
    for name, agent, trained_on in rows:
        options = {"threads": 1} if agent == spec else {}
        with Bars(name) as bars:
            run_benchmark(
                frozen, AgentSpec(agent, options), runs / name, RunOptions(name=name, trained_on=trained_on), bars
            )
    return write_report([runs], runs / "site", expert=True, say=say)
