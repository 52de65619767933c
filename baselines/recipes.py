"""Settings that work on the built-in worlds within minutes on two cores, in one place.

Found by hand on the `dev` splits, except where docs/algorithms/sft.md says otherwise. Every recipe keeps to one thread
(`make leaderboard` trains several worlds at once) and to a number of tokens, so that the same is learned on a slower
machine, later; the minutes only end what has gone astray.
"""

from __future__ import annotations

from typing import Any

from algorithms.algorithm import AlgorithmConfig
from algorithms.decoding import Decoding
from algorithms.prompts import PromptConfig
from algorithms.stepagent.implicit import StepAgentImplicitConfig
from algorithms.stepagent.inverse import StepAgentInverseConfig
from baselines.eto import ETOConfig
from baselines.gigpo import GiGPOConfig
from baselines.grpo import GRPOConfig
from baselines.ppo import PPOConfig
from baselines.rft import RFTConfig
from baselines.sft import SFTConfig

__all__ = ["RECIPES"]

ALFWORLD, SCIENCEWORLD, WEBSHOP = (f"StepAgent-{world}-v0" for world in ("ALFWorld", "ScienceWorld", "WebShop"))

RECIPES: dict[tuple[str, str], AlgorithmConfig] = {
    ("sft", ALFWORLD): SFTConfig(
        optimizer="muon",
        lr=3e-3,
        epochs=2,
        max_tokens=700_000,
        max_minutes=6,
        threads=1,
    ),
    ("sft", WEBSHOP): SFTConfig(
        optimizer="muon",
        lr=4e-3,
        epochs=2,
        length_warmup=0.5,
        max_tokens=400_000,
        max_minutes=5,
        threads=1,
        # Every page says the goal itself, and the first results of a page are the ones that count.
        prompt=PromptConfig(max_observation_tokens=144, repeat_goal=False),
    ),
    ("sft", SCIENCEWORLD): SFTConfig(
        optimizer="muon",
        lr=3e-3,
        num_traces=100,
        epochs=12,
        length_warmup=0.3,
        max_tokens=300_000,
        max_minutes=5,
        threads=1,
        prompt=PromptConfig(repeat_goal=False),  # goals are longer than most observations
        decoding=Decoding(mode="free"),  # a thousand admissible actions take the simulator longer than the model
    ),
}
"""(algorithm, env id) -> config."""


def _learners(env_id: str, tasks: int, **common: Any) -> dict[tuple[str, str], AlgorithmConfig]:
    """What starts from an SFT checkpoint; a round plays or inspects about `tasks` tasks."""
    configs = {
        "rft": RFTConfig(iterations=2, num_tasks=tasks, explorations_per_task=2, start="current", lr=3e-4, **common),
        "eto": ETOConfig(iterations=2, num_tasks=tasks, lr=2e-4, beta=0.3, **common),
        "ppo": PPOConfig(iterations=4, num_tasks=tasks // 2, value_warmup=1, lr=1e-4, **common),
        "grpo": GRPOConfig(iterations=4, num_tasks=tasks // 8, group_size=4, lr=2e-4, **common),
        "gigpo": GiGPOConfig(iterations=4, num_tasks=tasks // 8, group_size=4, lr=2e-4, **common),
        "stepagent-implicit": StepAgentImplicitConfig(cycles=4, num_tasks=tasks, lr=3e-4, **common),
        "stepagent-inverse": StepAgentInverseConfig(cycles=4, num_tasks=tasks, lr=3e-4, **common),
    }
    return {(name, env_id): config for name, config in configs.items()}


# A few tasks are enough for a curve, not for a choice among checkpoints.
_COMMON = {"threads": 1, "max_minutes": 5.0, "keep_best": False}
RECIPES |= _learners(ALFWORLD, 60, eval_every=2, eval_tasks=16, num_envs=16, **_COMMON)
RECIPES |= _learners(WEBSHOP, 60, eval_every=2, eval_tasks=24, num_envs=16, **_COMMON)
RECIPES |= _learners(SCIENCEWORLD, 16, eval_every=2, eval_tasks=8, num_envs=4, **_COMMON)
