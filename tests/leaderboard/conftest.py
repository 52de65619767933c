"""A frozen benchmark on the toy world, and short ways to run it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from leaderboard.agents import AgentSpec
from leaderboard.benchmark import load_benchmark
from leaderboard.freeze import freeze
from leaderboard.runner import RunOptions, run_benchmark
from leaderboard.schema import Benchmark, Result

HERE = Path(__file__).parent
TOML = """
name = "toy"
version = 1
title = "Toy"
seeds = {seeds}
repeats = {repeats}

[[worlds]]
world = "toy"
env_id = "toy_env:StepAgent-ToyJudge-v0"
settings = {{ max_steps = 12 }}
split = "test"
train_splits = ["train", "dev"]
tasks = "toy-v1.toy.txt"

[worlds.select]
count = {count}
seed = 7
"""


def make_benchmark(folder: Path, count: int = 12, seeds: str = "[0]", repeats: int = 1) -> Benchmark:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "toy-v1.toml"
    if not path.exists():
        path.write_text(TOML.format(count=count, seeds=seeds, repeats=repeats))
        freeze(path)
    return load_benchmark(path)


@pytest.fixture
def toy(tmp_path: Path) -> Benchmark:
    return make_benchmark(tmp_path / "benchmarks")


@pytest.fixture
def toy_toml(toy: Benchmark, tmp_path: Path) -> Path:
    return tmp_path / "benchmarks" / "toy-v1.toml"


@pytest.fixture
def judge(toy: Benchmark, tmp_path: Path) -> Callable[..., Result]:
    """judge("Random") runs toy_agents:Random into <tmp>/runs/<name> and gives the result."""

    def run(name: str, benchmark: Benchmark | None = None, out: str | None = None, **kwargs: object) -> Result:
        options = dict(kwargs.pop("options", {}))  # type: ignore[call-overload]
        agent = AgentSpec(f"toy_agents:{name}", options)
        folder = tmp_path / "runs" / (out or name.lower())
        return run_benchmark(benchmark or toy, agent, folder, RunOptions(name=name.lower(), **kwargs))  # type: ignore[arg-type]

    return run


@pytest.fixture
def child_env() -> dict[str, str]:
    """Environment for child processes that must find the toy modules and this checkout."""
    path = os.pathsep.join([str(HERE), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def python() -> str:
    return sys.executable
