"""Trains agents by their worlds' recipes, several worlds at once: one process and one thread each.

One thread for each of two trainings does more on two cores than two threads for one, and it does not collapse when
somebody else uses a core (the threads of a tensor library wait for one another by spinning).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from leaderboard.errors import AgentError
from leaderboard.schema import Section

__all__ = ["train", "train_all"]

Report = Callable[[str, float, float, str], None]
"""Told how a training goes on: (what, done, total, text)."""
Say = Callable[[str], None]


def train(
    section: Section, algorithm: str, folder: Path, say: Say = lambda line: None, report: Report | None = None
) -> None:
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
    log = RunLog(part / "training", progress=report or False)
    settings: dict[str, Any] = {k: v for k, v in section.settings.items() if k != "max_steps"}
    try:
        policy = algorithm_class(algorithm)(config).train(
            None, EnvSpec(section.env_id, settings, section.train_splits[0]), log
        )
    finally:
        log.close()
    policy.save(part)
    os.replace(part, folder)


def train_all(
    sections: Sequence[Section], algorithm: str, folder: Path, say: Say, processes: int | None = None
) -> None:
    """Train on every section, `folder/<world>` each; as many at once as there are cores, with a bar for each.

    Args:
        sections: what to train on, the longest first.
        algorithm: name of the registry.
        folder: where the checkpoints go.
        say: told what happens.
        processes: how many at once; None takes the number of cores.

    Raises:
        StepAgentError: the first that a training raised; the others are stopped.
    """
    context = multiprocessing.get_context("spawn")
    waiting = list(sections)
    places = max(1, min(len(waiting), processes or os.cpu_count() or 1))
    running: dict[Connection, tuple[Any, TaskID]] = {}
    with _bars() as bars:
        try:
            while waiting or running:
                while waiting and len(running) < places:
                    section = waiting.pop(0)
                    ours, theirs = context.Pipe(duplex=False)
                    process = context.Process(
                        target=_work, args=(theirs, section, algorithm, folder / section.world), daemon=True
                    )
                    process.start()
                    theirs.close()
                    running[ours] = (process, bars.add_task(section.world, total=None, text="", visible=False))
                for pipe in wait(list(running)):
                    assert isinstance(pipe, Connection)
                    process, bar = running[pipe]
                    if not _hear(pipe, bars, bar, say):
                        process.join()
                        del running[pipe]
                        if process.exitcode:
                            raise AgentError(f"a training process ended with exit code {process.exitcode}")
        finally:
            for process, _ in running.values():
                process.terminate()


def _hear(pipe: Connection, bars: Progress, bar: TaskID, say: Say) -> bool:
    """Take one message; False when the training is over."""
    try:
        message = pipe.recv()
    except EOFError:
        return False
    if isinstance(message, Exception):
        raise message
    if isinstance(message, str):
        say(message)
    else:
        what, done, total, text = message
        bars.update(bar, description=what, completed=done, total=total, text=text, visible=True)
    return True


def _work(pipe: Connection, section: Section, algorithm: str, folder: Path) -> None:
    """One training in a process of its own. When the owner is gone, the next report fails and ends it."""
    try:
        train(section, algorithm, folder, pipe.send, lambda *message: pipe.send(message))
    except BrokenPipeError:
        pass
    except Exception as error:
        pipe.send(error)
    finally:
        pipe.close()


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


def _saved_config(folder: Path) -> Any:
    try:
        return json.loads((folder / "training" / "config.json").read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError):
        return None
