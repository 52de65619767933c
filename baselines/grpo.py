"""GRPO: several episodes of one task are compared with each other, so that no critic is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from algorithms.algorithm import Algorithm, EnvSpec, RunLog
from algorithms.lm_policy import LMPolicy
from algorithms.policy import Policy
from algorithms.returns import group_advantages, spread_to_tokens
from algorithms.rl import Played, RLConfig, improve, play, survey
from algorithms.training import Trainer, frozen_copy, starting_policy

__all__ = ["GRPO", "GRPOConfig"]


@dataclass(frozen=True)
class GRPOConfig(RLConfig):
    """Settings of GRPO."""

    num_tasks: int = 8
    """Groups in an iteration, each on a task of its own."""
    group_size: int = 8
    """Episodes of a group: one task, different draws."""
    divide_by_std: bool = True
    """Divide advantages by the standard deviation of the group; False: only centre them (Dr. GRPO)."""
    mean_per: str = "sequence"
    """"sequence": each sequence weighs the same (the paper's 1/|o|); "token": each token does."""

    def validate(self) -> None:
        """See `AlgorithmConfig.validate`."""
        super().validate()
        self.require("num_tasks", self.num_tasks >= 1, "at least 1")
        self.require("group_size", self.group_size >= 2, "at least 2 (one episode has nothing to be compared with)")
        self.require("mean_per", self.mean_per in ("sequence", "token"), "'sequence' or 'token'")


class GRPO(Algorithm):
    """Group relative policy optimisation with outcome supervision (DeepSeekMath, arXiv 2402.03300, eq. 3 and 4)."""

    name = "grpo"
    Config = GRPOConfig
    state_key: ClassVar[bool] = False

    def train(self, policy: Policy | None, env: EnvSpec, log: RunLog) -> LMPolicy:
        """See `Algorithm.train`. It needs a policy to start from, usually one trained with SFT."""
        config: GRPOConfig = self.config
        policy = starting_policy(self.name, policy)
        log.config(self, env)
        reference = frozen_copy(policy.model) if config.kl_weight else None
        modules = {} if reference is None else {"reference": reference}
        with Trainer(self.name, policy, env, config, log, modules) as trainer:
            for _ in trainer.rounds(config.iterations):
                tasks = [task for task in trainer.draw_tasks(config.num_tasks) for _ in range(config.group_size)]
                played = play(trainer, tasks, config.temperature, config.invalid_reward, state_key=type(self).state_key)
                advantages = self.advantages(played)
                alive = {tasks[i] for i in (advantages != 0).any(dim=1).nonzero().flatten().tolist()}
                trainer.record(**played.summary(), dead_groups=len(set(tasks)) - len(alive))
                sequences = [s for s in played.sequences if tasks[s.episode] in alive]
                if sequences:
                    acted = survey(policy, reference, played, config)
                    spread = spread_to_tokens(advantages, played.step_of_position)
                    found = improve(trainer, sequences, acted, spread, config, per=config.mean_per)
                    trainer.record(logprob_gap=acted.gap, **found)
        return policy

    def advantages(self, played: Played) -> torch.Tensor:
        """Shape (E, S): every step of an episode has the advantage of the episode within its group."""
        groups = [trace.task_id for trace in played.traces]
        totals = group_advantages(played.rewards.sum(1), groups, divide_by_std=self.config.divide_by_std)
        return torch.where(played.mask, totals[:, None], 0.0)
