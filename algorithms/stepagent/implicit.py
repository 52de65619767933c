"""StepAgent with implicit reward: prefer, step by step, the expert's action over the novice's own."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from algorithms.algorithm import Algorithm, EnvSpec, RunLog
from algorithms.branches import branch_batch, branched_logprobs, group_by_length
from algorithms.lm_policy import LMPolicy
from algorithms.losses import dpo_loss
from algorithms.optim import OPTIMIZERS, optimizers
from algorithms.policy import Policy
from algorithms.stepagent.cycles import CycleConfig, begin, cycles
from algorithms.stepagent.inspection import Inspection

__all__ = ["StepAgentImplicit", "StepAgentImplicitConfig"]


@dataclass(frozen=True)
class StepAgentImplicitConfig(CycleConfig):
    """Settings of StepAgent with implicit reward. `lr` falls linearly to a tenth over each cycle."""

    reference: str = "initial"
    """The frozen policy of the loss: "initial" (the one training starts from) or "cycle" (each cycle's first)."""
    beta: float = 0.3
    """β of the loss: strength of the tie to the reference."""
    nll_weight: float = 0.3
    """Weight of the expert actions' negative log-likelihood, agreeing states included: it keeps the preferred actions
    from becoming unlikely along with the others."""
    optimizer: str = "adamw"
    """"adamw" or "muon"."""
    weight_decay: float = 0.0
    """Of the optimiser, on matrices only."""

    def validate(self) -> None:
        """See `AlgorithmConfig.validate`."""
        super().validate()
        self.require("reference", self.reference in ("initial", "cycle"), "'initial' or 'cycle'")
        self.require("optimizer", self.optimizer in OPTIMIZERS, f"one of {list(OPTIMIZERS)}")
        self.require("beta", self.beta > 0, "above 0")
        for name in ("nll_weight", "weight_decay"):
            self.require(name, getattr(self, name) >= 0, "at least 0")


class StepAgentImplicit(Algorithm):
    """Cycles of inspection (novice and expert act in the same states) and reflection, which minimises

    −log σ(β log[π(â|s)/π_ref(â|s)] − β log[π(a|s)/π_ref(a|s)])

    over expert actions â and novice actions a (arXiv 2411.03817; π_ref is a frozen copy of the policy).
    """

    name = "stepagent-implicit"
    Config = StepAgentImplicitConfig

    def train(self, policy: Policy | None, env: EnvSpec, log: RunLog) -> LMPolicy:
        """See `Algorithm.train`. It needs a policy to start from, usually one trained with SFT."""
        config: StepAgentImplicitConfig = self.config
        policy = begin(self.name, policy, config)
        log.config(self, env)
        rng = np.random.default_rng(config.seed)
        reference = copy.deepcopy(policy.model).eval()
        optimisers = optimizers(policy.model, config.optimizer, config.lr, config.weight_decay)
        with log.progress(f"{self.name}: cycles", total=config.cycles) as update:
            for cycle, found in cycles(policy, env, config, rng):
                if config.reference == "cycle":
                    reference.load_state_dict(policy.model.state_dict())
                metrics = self._reflect(policy, reference, optimisers, found, rng)
                log.metrics("cycle", cycle=cycle, agreement=found.agreement, steps=found.steps, **metrics)
                update(cycle + 1, f"agreement {found.agreement:.3f}, loss {metrics['loss']:.3f}")
        policy.forget()
        policy.name = self.name
        return policy

    def _reflect(
        self,
        policy: LMPolicy,
        reference: Any,
        optimisers: list[torch.optim.Optimizer],
        found: Inspection,
        rng: np.random.Generator,
    ) -> dict[str, float]:
        """One cycle's updates; returns the means of what the loss says."""
        config = self.config
        groups = group_by_length(found.items, config.batch_tokens)
        prepared = []
        for group in groups:
            batch = branch_batch([found.items[i] for i in group])
            with torch.no_grad():
                prepared.append((batch, branched_logprobs(reference, batch)))
        total, done = config.epochs * len(prepared), 0
        sums: dict[str, float] = {}
        policy.model.train()
        for _ in range(config.epochs):
            for i in rng.permutation(len(prepared)):
                batch, (ref_expert, ref_novice) = prepared[int(i)]
                for optimiser in optimisers:
                    for parameters in optimiser.param_groups:
                        parameters["lr"] = config.lr * (1 - 0.9 * done / total)
                expert, novice = branched_logprobs(policy.model, batch)
                result = dpo_loss(
                    expert,
                    novice,
                    ref_expert,
                    ref_novice,
                    beta=config.beta,
                    agree=~batch.branched.to(expert.device),
                    nll_weight=config.nll_weight,
                    chosen_tokens=batch.expert_tokens.to(expert.device),
                )
                policy.model.zero_grad(set_to_none=True)
                result.loss.backward()
                torch.nn.utils.clip_grad_norm_(policy.model.parameters(), config.clip)
                for optimiser in optimisers:
                    optimiser.step()
                done += 1
                values = {
                    "loss": result.loss, "preference": result.preference, "nll": result.nll, "margin": result.margin,
                    "accuracy": result.accuracy, "chosen_gain": (expert - ref_expert).mean(),
                }  # fmt: skip
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + float(value.detach()) / total
        policy.model.eval()
        return sums
