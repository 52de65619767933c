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


@pytest.fixture(scope="session")
def habits(toy_traces):
    """Cloned from a teacher with bad habits: knows how to act, and often does the wrong thing."""
    import torch
    from biased import biased_traces

    from algorithms.algorithm import RunLog
    from baselines.sft import SFT, SFTConfig

    torch.set_num_threads(1)
    config = SFTConfig(model="nano", batch_tokens=512, lr=4e-3, max_steps=220, epochs=100, optimizer="muon")
    return SFT(config).fit(None, biased_traces(toy_traces), RunLog())
