"""What both kinds of reflection share: settings of the cycles, and the inspection that each cycle begins with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from algorithms.algorithm import AlgorithmConfig, ConfigError, EnvSpec
from algorithms.lm_policy import LMPolicy
from algorithms.policy import Policy
from algorithms.stepagent.inspection import STATES, Inspection, inspect

__all__ = ["CycleConfig", "begin", "cycles"]


@dataclass(frozen=True)
class CycleConfig(AlgorithmConfig):
    """Settings of the cycles and their inspection."""

    inspection: str = "expert"
    """States to compare in: "expert" (the expert's, as in the paper) or "on_policy" (those the novice reaches)."""
    expert: str | None = None
    """Which expert; None: the world's first."""
    cycles: int = 3
    """Rounds of inspection and reflection."""
    num_tasks: int | None = 200
    """Tasks of the split to inspect in a cycle; None: all."""
    temperature: float = 1.0
    """At which the novice draws its actions during inspection."""
    epochs: int = 2
    """Passes of reflection over what a cycle's inspection found."""
    batch_tokens: int = 2048
    """The most tokens in a batch, padding included."""
    lr: float = 2e-4
    """Learning rate of the policy."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    num_envs: int = 32
    """Episodes played at once."""

    def validate(self) -> None:
        """See `AlgorithmConfig.validate`."""
        super().validate()
        self.require("inspection", self.inspection in STATES, f"one of {list(STATES)}")
        for name in ("cycles", "epochs", "batch_tokens", "num_envs"):
            self.require(name, getattr(self, name) >= 1, "at least 1")
        self.require("num_tasks", self.num_tasks is None or self.num_tasks >= 1, "at least 1, or None")
        self.require("temperature", self.temperature >= 0, "at least 0")
        self.require("lr", 0 < self.lr < 1, "above 0 and below 1")
        self.require("clip", self.clip > 0, "above 0")


def begin(name: str, policy: Policy | None, config: CycleConfig) -> LMPolicy:
    """Check the policy that training starts from, and set the threads.

    Raises:
        ConfigError: there is none, or it is no language model.
    """
    if not isinstance(policy, LMPolicy):
        raise ConfigError(f"{name} needs an LMPolicy to start from: train one with sft, and give it as --init")
    if config.threads:
        torch.set_num_threads(config.threads)
    return policy


def cycles(
    policy: LMPolicy, env: EnvSpec, config: CycleConfig, rng: np.random.Generator
) -> Iterator[tuple[int, Inspection]]:
    """Inspect once for each cycle, with the policy as it is by then; stops when the minutes are used up.

    Args:
        policy: the novice. env: where. config: how often and how much.
        rng: draws each cycle's tasks and the seed of its episodes.

    Yields:
        Number of the cycle, and what its inspection found.
    """
    started = time.perf_counter()
    world = env.make()
    ids = world.unwrapped.tasks(env.split).ids
    world.close()
    drawing = replace(policy.decoding, temperature=config.temperature)
    novice = LMPolicy(policy.model, policy.tokenizer, policy.prompt.config, drawing, "novice")
    for cycle in range(config.cycles):
        if config.max_minutes and (time.perf_counter() - started) / 60 > config.max_minutes:
            return
        tasks = [ids[int(i)] for i in rng.permutation(len(ids))[: config.num_tasks or len(ids)]]
        seed = int(rng.integers(2**31))
        novice.forget()
        found = inspect(
            novice, env, tasks, states=config.inspection, expert=config.expert, seed=seed, num_envs=config.num_envs
        )
        yield cycle, found
