"""The job behind `make leaderboard`: train a small agent on each built-in world, judge it beside random and expert.

Everything is resumed: a world whose checkpoint is there is not trained again, an episode that was judged stays judged.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leaderboard.agents import AgentSpec
from leaderboard.benchmark import load_benchmark
from leaderboard.board import Board
from leaderboard.errors import AgentError
from leaderboard.progress import Bars
from leaderboard.report import write_report
from leaderboard.runner import RunOptions, run_benchmark
from leaderboard.schema import Section

__all__ = ["AGENTS", "quick", "train"]

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
    for section in frozen.worlds:
        train(section, "sft", out / "quick" / "sft" / section.world, say)
    spec = (out / "quick" / "sft").as_posix() + "/{world}"
    rows.append(("sft", spec, "expert traces of each world's built-in train split"))
    for name, agent, trained_on in rows:
        with Bars(name) as bars:
            run_benchmark(frozen, AgentSpec(agent), runs / name, RunOptions(name=name, trained_on=trained_on), bars)
    return write_report([runs], runs / "site", expert=True, say=say)


def train(section: Section, algorithm: str, folder: Path, say: Say = lambda line: None) -> None:
    """Train by the recipe of a world on the first of the section's train splits, unless the checkpoint is there.

    The checkpoint appears whole or not at all; config and metrics of the training lie in `training` beside it.
    """
    try:
        from algorithms import algorithm_class
        from algorithms.algorithm import EnvSpec, RunLog
        from baselines.recipes import RECIPES
    except ModuleNotFoundError as error:
        raise AgentError(f"training needs {error.name}: `pip install 'stepagent[train]'`") from None
    config = RECIPES[algorithm, section.env_id]
    if folder.is_dir():
        if _saved_config(folder) != json.loads(json.dumps(config.to_dict())):
            say(f"{folder}: trained with other settings than today's recipe; delete the folder to train anew")
        return
    say(f"training {algorithm} on {section.world} ({section.train_splits[0]} split)")
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    log = RunLog(part / "training", progress=True)
    settings: dict[str, Any] = {k: v for k, v in section.settings.items() if k != "max_steps"}
    try:
        policy = algorithm_class(algorithm)(config).train(
            None, EnvSpec(section.env_id, settings, section.train_splits[0]), log
        )
    finally:
        log.close()
    policy.save(part)
    os.replace(part, folder)


def _saved_config(folder: Path) -> Any:
    try:
        return json.loads((folder / "training" / "config.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError):
        return None
