"""Settings that work on the built-in worlds within minutes on two cores, in one place.

Found by hand on each world's `train` and `dev` splits; docs/algorithms/sft.md says what they reach.
"""

from __future__ import annotations

from algorithms.algorithm import AlgorithmConfig
from baselines.sft import SFTConfig

__all__ = ["RECIPES"]

RECIPES: dict[tuple[str, str], AlgorithmConfig] = {
    ("sft", "StepAgent-ALFWorld-v0"): SFTConfig(max_minutes=2.0, threads=2),
    ("sft", "StepAgent-WebShop-v0"): SFTConfig(max_minutes=2.0, threads=2),
    ("sft", "StepAgent-ScienceWorld-v0"): SFTConfig(max_minutes=2.0, threads=2),
}
"""(algorithm, env id) -> config."""
