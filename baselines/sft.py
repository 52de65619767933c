"""Supervised fine-tuning on experts' traces (behaviour cloning): the likelihood of their actions is maximised."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from algorithms.algorithm import Algorithm, AlgorithmConfig, ConfigError, EnvSpec, RunLog
from algorithms.datasets import Batch, batches, expert_traces, texts_of
from algorithms.decoding import Decoding
from algorithms.lm import PRESETS, count_parameters, logits_at, new_model
from algorithms.lm_policy import LMPolicy
from algorithms.losses import sft_loss
from algorithms.optim import OPTIMIZERS, optimizers
from algorithms.policy import Policy
from algorithms.prompts import ContextStats, PromptConfig, Segment, segments_of_trace
from algorithms.tokenizer import TokenizerConfig, build_tokenizer
from stepagent_envs.errors import did_you_mean
from stepagent_envs.traces import Trace, read_traces

__all__ = ["SFT", "SFTConfig", "cut_segments"]


@dataclass(frozen=True)
class SFTConfig(AlgorithmConfig):
    """Settings of SFT."""

    model: str = "tiny"
    """What to train when no policy is given: a preset from scratch ("tiny", "small") or a model folder."""
    traces: str | None = None
    """JSONL file of traces to learn from; None asks the env's expert."""
    num_traces: int | None = None
    """How many tasks of the split to take traces of; None: all."""
    expert: str | None = None
    """Which expert to ask; None: the world's first."""
    epochs: int = 3
    """Passes over the data."""
    max_steps: int | None = None
    """Stop after so many updates."""
    batch_tokens: int = 1024
    """The most tokens in a batch, padding included."""
    optimizer: str = "adamw"
    """"adamw", or "muon": Muon on the inner matrices (learns from scratch in fewer tokens), AdamW on the rest."""
    lr: float = 1.5e-3
    """Peak learning rate."""
    warmup: float = 0.03
    """Share of the training in which the learning rate rises linearly; then it falls along a cosine."""
    length_warmup: float = 0.0
    """Share of the training in which sequences are cut short: at 128 tokens at first, then 256, then 512. A model from
    scratch learns to copy on short sequences sooner."""
    final_lr: float = 0.05
    """Learning rate at the end, as a share of the peak."""
    weight_decay: float = 0.01
    """Of AdamW, on matrices only."""
    beta2: float = 0.98
    """Second moment's decay of AdamW."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    label_smoothing: float = 0.0
    """Share of probability given to all tokens alike."""
    log_every: int = 20
    """Updates between two records of the metrics."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    """For models from scratch."""
    prompt: PromptConfig = field(default_factory=PromptConfig)
    """For models from scratch."""
    decoding: Decoding = field(default_factory=Decoding)
    """How the trained policy acts."""

    def validate(self) -> None:
        """See `AlgorithmConfig.validate`."""
        super().validate()
        for name in ("epochs", "batch_tokens", "log_every"):
            self.require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("num_traces", "max_steps"):
            self.require(name, getattr(self, name) is None or getattr(self, name) >= 1, "at least 1, or None")
        self.require("optimizer", self.optimizer in OPTIMIZERS, f"one of {list(OPTIMIZERS)}")
        self.require("lr", 0 < self.lr < 1, "above 0 and below 1")
        self.require("clip", self.clip > 0, "above 0")
        self.require("weight_decay", self.weight_decay >= 0, "at least 0")
        for name in ("warmup", "length_warmup", "label_smoothing", "beta2"):
            self.require(name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        self.require("final_lr", 0 <= self.final_lr <= 1, "between 0 and 1")
        if self.model not in PRESETS and not Path(self.model).is_dir():
            raise ConfigError(
                f"model {self.model!r} is neither a preset nor a folder; {did_you_mean(self.model, PRESETS)}"
            )


class SFT(Algorithm):
    """Maximises the log-likelihood of the traces' action tokens; observations are read, never predicted."""

    name = "sft"
    Config = SFTConfig

    def train(self, policy: Policy | None, env: EnvSpec, log: RunLog) -> LMPolicy:
        """Collect the expert's traces and fit the policy to them (see `Algorithm.train`)."""
        log.config(self, env)
        return self.fit(policy, self.traces(env, log), log)

    def traces(self, env: EnvSpec, log: RunLog) -> list[Trace]:
        """The traces to learn from: read, or recorded from the env's expert."""
        config = self.config
        started = time.perf_counter()
        if config.traces is not None:
            traces = list(read_traces(config.traces))[: config.num_traces]
        else:
            traces = []
            with log.progress(f"{env.env_id}: expert traces", total=config.num_traces) as update:
                for trace in expert_traces(env, config.num_traces, config.seed, config.expert):
                    traces.append(trace)
                    update(len(traces), f"{len(traces)} traces")
        if not traces:
            raise ConfigError(f"{env.env_id}: there is no solved expert trace in split {env.split!r}")
        seconds = time.perf_counter() - started
        log.metrics("data", traces=len(traces), steps=sum(len(t.steps) for t in traces), collect_seconds=seconds)
        return traces

    def fit(self, policy: Policy | None, traces: Sequence[Trace], log: RunLog) -> LMPolicy:
        """Fit a policy to traces.

        Args:
            policy: an `LMPolicy` to go on with; None starts one as the config says.
            traces: what to imitate.
            log: gets the metrics.
        """
        config = self.config
        if config.threads:
            torch.set_num_threads(config.threads)
        if policy is not None and not isinstance(policy, LMPolicy):
            raise ConfigError(f"sft trains an LMPolicy, got {type(policy).__name__}")
        policy = policy or self.new_policy(traces)
        stats = ContextStats()
        segments = [s for trace in traces for s in segments_of_trace(trace, policy.prompt, stats) if s.actions]
        log.metrics(
            "model",
            parameters=count_parameters(policy.model),
            vocabulary=len(policy.tokenizer),
            sequences=len(segments),
            tokens=sum(len(s.ids) for s in segments),
            action_tokens=sum(b - a for s in segments for a, b in s.actions),
            longest=max(len(s.ids) for s in segments),
            observations_cut=stats.observations_cut,
            restarts=stats.restarts,
        )
        _Fit(config, policy, segments, log).run()
        policy.forget()
        return policy

    def new_policy(self, traces: Sequence[Trace]) -> LMPolicy:
        """The untrained policy that the config asks for."""
        config = self.config
        if config.model not in PRESETS:
            return LMPolicy.load(config.model, name=self.name)
        tokenizer = build_tokenizer(texts_of(traces), config.tokenizer)
        # An action that is longer than its room is read at positions beyond the window.
        model = new_model(config.model, tokenizer, config.prompt.window + config.prompt.max_action_tokens, config.seed)
        return LMPolicy(model, tokenizer, config.prompt, config.decoding, name=self.name)


class _Fit:
    """One run of the optimiser."""

    def __init__(self, config: SFTConfig, policy: LMPolicy, segments: list[Segment], log: RunLog) -> None:
        self.config, self.policy, self.segments, self.log = config, policy, segments, log
        self.optimizers = optimizers(
            policy.model, config.optimizer, config.lr, weight_decay=config.weight_decay, beta2=config.beta2
        )
        self.started = time.perf_counter()
        self.step = self.seen = self.correct = self.predicted = 0  # seen: tokens read, without padding
        self.loss_sum = 0.0

    def run(self) -> None:
        """Update until the epochs, the steps or the minutes are used up."""
        config = self.config
        rng = np.random.default_rng(config.seed)
        total_tokens = config.epochs * sum(len(s.ids) for s in self.segments)
        with self.log.progress(f"sft: {len(self.segments)} sequences", total=1.0) as update, _seeded(config.seed):
            self.policy.model.train()
            done = 0.0
            while done < 1:
                stage = _stage(done, config.length_warmup)
                segments = self.segments if stage is None else cut_segments(self.segments, SHORT * 2**stage)
                for batch in batches(segments, config.batch_tokens, rng):
                    self._update(batch, segments, done)
                    done = self._share_done(total_tokens)
                    if self.step % config.log_every == 0:
                        self._report(update, done)
                    if done >= 1 or _stage(done, config.length_warmup) != stage:
                        break
            self._report(update, 1.0)
        self.policy.model.eval()

    def _share_done(self, total_tokens: int) -> float:
        """How far the training is, by whichever of its limits comes first."""
        shares = [self.seen / total_tokens]
        if self.config.max_steps is not None:
            shares.append(self.step / self.config.max_steps)
        if self.config.max_minutes is not None:
            shares.append((time.perf_counter() - self.started) / (60 * self.config.max_minutes))
        return max(shares)

    def _update(self, batch: Batch, segments: list[Segment], done: float) -> None:
        config, model = self.config, self.policy.model
        lr = config.lr * _schedule(done, config.warmup, config.final_lr)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        device = model.device
        logits = logits_at(model, batch.ids.to(device), batch.rows.to(device), batch.positions.to(device) - 1)
        targets = batch.targets.to(device)
        loss = sft_loss(logits, targets, config.label_smoothing)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self.seen += sum(len(segments[i].ids) for i in batch.segments)
        self.predicted += len(targets)
        self.correct += int((logits.argmax(-1) == targets).sum())
        self.loss_sum += float(loss.detach()) * len(targets)

    def _report(self, update: Any, done: float) -> None:
        if not self.predicted:
            return
        loss, accuracy = self.loss_sum / self.predicted, self.correct / self.predicted
        rate = self.seen / (time.perf_counter() - self.started)
        self.log.metrics(
            "train",
            step=self.step,
            tokens=self.seen,
            loss=loss,
            accuracy=accuracy,
            lr=self.optimizers[0].param_groups[0]["lr"],
            tokens_per_second=round(rate),
        )
        update(done, f"loss {loss:.3f}, token accuracy {accuracy:.3f}, {rate:,.0f} tokens/s")
        self.predicted = self.correct = 0
        self.loss_sum = 0.0


SHORT = 128
"""Tokens of a sequence in the first of the three stages of `length_warmup`."""


def _stage(done: float, length_warmup: float) -> int | None:
    """Which stage of the length warm-up a share of the training falls into: 0, 1, 2, or None after it."""
    return min(int(3 * done / length_warmup), 2) if done < length_warmup else None


def cut_segments(segments: Sequence[Segment], tokens: int) -> list[Segment]:
    """The beginnings of sequences, up to the last action that ends within so many tokens; all of them if none do."""
    cut = []
    for segment in segments:
        kept = [span for span in segment.actions if span[1] <= tokens]
        if kept:
            cut.append(Segment(segment.ids[: kept[-1][1]], kept, segment.steps[: len(kept)]))
    return cut or list(segments)


def _schedule(done: float, warmup: float, final: float) -> float:
    """Learning rate at a share of the training, as a share of the peak: linear rise, then a cosine to `final`."""
    if done < warmup:
        return max(done / warmup, 0.02)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min((done - warmup) / (1 - warmup), 1.0)))


class _seeded:
    """Dropout draws from the tensor library's global generator: seed it, and give it back as it was."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self.state = torch.get_rng_state()
        torch.manual_seed(self.seed)

    def __exit__(self, *error: object) -> None:
        torch.set_rng_state(self.state)
