"""What the tests of PPO, GRPO and GiGPO share: runs that are shuffled or cut off."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from biased import copy_of

from algorithms.algorithm import RunLog
from algorithms.training import Trainer

GAIN = 0.3
"""How much likelier a run must make success than at the start. (Drift alone was seen to add 0.16.)"""


class Killed(BaseException):
    """Stands for the end of the process: nothing of the loop handles it."""


def resumed_and_whole(algorithm, start, toy_env, folder, killed_at):
    """The weights of a run that was killed in an update and resumed, and of one that was not."""
    update = Trainer.update

    def dying(self, *args, **kwargs):
        if self.step == killed_at:
            raise Killed
        return update(self, *args, **kwargs)

    whole = algorithm().train(copy_of(start), toy_env, RunLog(folder / "whole"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "update", dying)
        with pytest.raises(Killed):
            algorithm().train(copy_of(start), toy_env, RunLog(folder / "cut"))
    log = RunLog(folder / "cut", resume=True)
    resumed = algorithm().train(copy_of(start), toy_env, log)
    log.close()
    return resumed.model.state_dict(), whole.model.state_dict()


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
