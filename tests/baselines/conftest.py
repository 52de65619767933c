"""The toy world of tests/algorithms, for the baselines too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "algorithms"))


@pytest.fixture(scope="session")
def toy_env():
    import toy_world

    from algorithms.algorithm import EnvSpec

    return EnvSpec(toy_world.ENV_ID)


@pytest.fixture(scope="session")
def toy_traces(toy_env):
    from algorithms.datasets import expert_traces

    return list(expert_traces(toy_env))
