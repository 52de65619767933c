"""What the tests of PPO, GRPO and GiGPO share."""

from __future__ import annotations

import numpy as np
import torch

GAIN = 0.3
"""How much likelier a run must make success than at the start. (Drift alone was seen to add 0.16.)"""


def same_weights(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def shuffling(play):
    """`play` whose episodes get each other's total reward, at their last step."""
    rng = np.random.default_rng(0)

    def shuffled(*args, **kwargs):
        episodes = play(*args, **kwargs)
        totals = rng.permutation([sum(episode.rewards) for episode in episodes])
        for episode, total in zip(episodes, totals, strict=True):
            episode.rewards = [0.0] * (len(episode.rewards) - 1) + [float(total)]
        return episodes

    return shuffled


def rounds(log):
    return [record for record in log.records if record["kind"] == "round"]
