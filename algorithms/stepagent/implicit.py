"""StepAgent with implicit reward: prefer, step by step, the expert's action over the novice's own."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from algorithms.algorithm import Algorithm, AlgorithmConfig, ConfigError, EnvSpec, RunLog
from algorithms.branches import branch_batch, branched_logprobs, group_by_length
from algorithms.lm_policy import LMPolicy
from algorithms.losses import dpo_loss
from algorithms.optim import OPTIMIZERS, optimizers
from algorithms.policy import Policy
from algorithms.stepagent.inspection import STATES, Inspection, inspect

__all__ = ["StepAgentImplicit", "StepAgentImplicitConfig"]


@dataclass(frozen=True)
class StepAgentImplicitConfig(AlgorithmConfig):
    """Settings of StepAgent with implicit reward."""

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
    reference: str = "initial"
    """The frozen policy of the loss: "initial" (the one training starts from) or "cycle" (each cycle's first)."""
    beta: float = 0.3
    """β of the loss: strength of the tie to the reference."""
    nll_weight: float = 0.3
    """Weight of the expert actions' negative log-likelihood, agreeing states included: it keeps the preferred actions
    from becoming unlikely along with the others."""
    epochs: int = 2
    """Passes over the pairs of a cycle."""
    batch_tokens: int = 2048
    """The most tokens in a batch, padding included."""
    optimizer: str = "adamw"
    """"adamw" or "muon"."""
    lr: float = 2e-4
    """Learning rate; it falls linearly to a tenth over each cycle."""
    weight_decay: float = 0.0
    """Of the optimiser, on matrices only."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    num_envs: int = 32
    """Episodes played at once."""

    def validate(self) -> None:
        """See `AlgorithmConfig.validate`."""
        super().validate()
        self.require("inspection", self.inspection in STATES, f"one of {list(STATES)}")
        self.require("reference", self.reference in ("initial", "cycle"), "'initial' or 'cycle'")
        self.require("optimizer", self.optimizer in OPTIMIZERS, f"one of {list(OPTIMIZERS)}")
        for name in ("cycles", "epochs", "batch_tokens", "num_envs"):
            self.require(name, getattr(self, name) >= 1, "at least 1")
        self.require("num_tasks", self.num_tasks is None or self.num_tasks >= 1, "at least 1, or None")
        self.require("beta", self.beta > 0, "above 0")
        self.require("lr", 0 < self.lr < 1, "above 0 and below 1")
        self.require("clip", self.clip > 0, "above 0")
        for name in ("temperature", "nll_weight", "weight_decay"):
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
        if not isinstance(policy, LMPolicy):
            raise ConfigError(f"{self.name} needs an LMPolicy to start from: train one with sft, and give it as --init")
        if config.threads:
            torch.set_num_threads(config.threads)
        log.config(self, env)
        started = time.perf_counter()
        world = env.make()
        ids = world.unwrapped.tasks(env.split).ids
        world.close()
        rng = np.random.default_rng(config.seed)
        novice = LMPolicy(
            policy.model, policy.tokenizer, policy.prompt.config,
            replace(policy.decoding, temperature=config.temperature), "novice",
        )  # fmt: skip
        reference = copy.deepcopy(policy.model).eval()
        optimisers = optimizers(policy.model, config.optimizer, config.lr, config.weight_decay)
        with log.progress(f"{self.name}: cycles", total=config.cycles) as update:
            for cycle in range(config.cycles):
                if config.max_minutes and (time.perf_counter() - started) / 60 > config.max_minutes:
                    break
                chosen = rng.permutation(len(ids))[: config.num_tasks or len(ids)]
                tasks = [ids[int(i)] for i in chosen]
                seed = int(rng.integers(2**31))
                novice.forget()
                found = inspect(
                    novice, env, tasks,
                    states=config.inspection, expert=config.expert, seed=seed, num_envs=config.num_envs,
                )  # fmt: skip
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
