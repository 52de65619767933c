"""What reinforcement learning of a language model shares: from played episodes to batches, ratios and updates.

A *position* is a token of an action. A token that the decoding left no alternative has log-probability 0 whatever the
weights are: it is not counted in any mean and carries no gradient, and only stands for its step where an action has no
other. Log-probabilities, old and new, are those of the distribution the actions were drawn from: renormalised over the
allowed tokens, at the sampling temperature. E is the number of episodes, S of steps, P of positions of the longest one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from algorithms.algorithm import ConfigError
from algorithms.lm import logits_at
from algorithms.lm_policy import LMPolicy
from algorithms.losses import categorical_entropy, kl_estimate, masked_mean, ppo_policy_loss, token_logprobs
from algorithms.policy import Act, History, Policy
from algorithms.prompts import segments_of_trace
from algorithms.rollout import EpisodeSpec
from algorithms.training import Trainer, TrainingConfig
from stepagent_envs.traces import Trace

__all__ = [
    "Acted", "ActedBatch", "ActedSequence", "Played", "RLConfig", "Reading",
    "acted_batch", "improve", "play", "read", "survey",
]  # fmt: skip

LEVELS = ("step", "token")


@dataclass(frozen=True)
class RLConfig(TrainingConfig):
    """Settings that PPO, GRPO and GiGPO share. An iteration is a round: play, then learn from it."""

    iterations: int = 50
    """Rounds of playing and learning."""
    temperature: float = 1.0
    """At which actions are drawn. Old and new log-probabilities are of this temperature too."""
    epochs: int = 2
    """Passes over what an iteration played."""
    minibatches: int = 4
    """Updates in a pass. Each adds up the gradients of batches of at most `batch_tokens`."""
    clip_ratio: float = 0.2
    """ε: how far the ratio of new to old probability may fall before the gain is cut off."""
    clip_ratio_high: float | None = None
    """The same upwards; None: as `clip_ratio`."""
    kl_weight: float = 0.01
    """Weight of the KL divergence to the policy that training started from; 0: there is no reference."""
    entropy_weight: float = 0.0
    """Weight of the policy's entropy."""
    target_kl: float | None = 0.1
    """End an iteration's updates after the first whose KL from the acting policy is larger; None: never."""
    invalid_reward: float = -0.1
    """Added to the reward of a step whose action the world refused."""

    def validate(self) -> None:
        """See `AlgorithmConfig.validate`."""
        super().validate()
        for name in ("iterations", "epochs", "minibatches"):
            self.require(name, getattr(self, name) >= 1, "at least 1")
        self.require("temperature", self.temperature > 0, "above 0 (a policy gradient needs draws)")
        self.require("clip_ratio", 0 < self.clip_ratio < 1, "above 0 and below 1")
        for name in ("clip_ratio_high", "target_kl"):
            self.require(name, getattr(self, name) is None or getattr(self, name) > 0, "above 0, or None")
        for name in ("kl_weight", "entropy_weight"):
            self.require(name, getattr(self, name) >= 0, "at least 0")
        self.require("invalid_reward", self.invalid_reward <= 0, "at most 0")


# --- playing -------------------------------------------------------------------------------------------------------


class _Recorder(Policy):
    """Lets a policy act, and notes of each state what traces do not hold: open actions, and the state's key."""

    name = "novice"

    def __init__(self, novice: LMPolicy, state_key: bool) -> None:
        self.novice, self.state_key = novice, state_key
        self.admissible = novice.admissible
        self._notes: dict[History, list[tuple[list[str], str | None]]] = {}

    def act(self, histories: Sequence[History]) -> list[Act]:
        """See `Policy.act`."""
        for history in histories:
            note = (history.info.get("open_actions") or [], history.info.get("state_key"))
            notes = self._notes.setdefault(history, [])
            del notes[len(history.actions) :]  # asked again without having acted
            notes.append(note)
        return self.novice.act(histories)

    def notes(self) -> dict[tuple[str, tuple[str, ...]], list[tuple[list[str], str | None]]]:
        """By task and actions (worlds are deterministic: equal actions lead through equal states)."""
        return {(h.info["task_id"], tuple(h.actions)): notes for h, notes in self._notes.items()}


@dataclass(slots=True)
class ActedSequence:
    """A training sequence with what its tokens were chosen from.

    Attributes:
        ids: token ids.
        episode, first_step, first_position: which episode this is, and where in it the sequence begins.
        states: the place before each action. final: the place after an observation that no action followed, or None.
        places, targets: of each position: the place that predicts it, and its token.
        choices: the tokens that were allowed: ids, a boolean array of shape (V,), or None for all.
        steps: the episode's step that each position belongs to.
    """

    ids: list[int]
    episode: int
    first_step: int
    first_position: int
    states: list[int]
    places: list[int]
    targets: list[int]
    choices: list[list[int] | np.ndarray | None]
    steps: list[int]
    final: int | None = None

    @property
    def counts(self) -> list[bool]:
        """Whether there was an alternative at each position."""
        return [not isinstance(c, list) or len(c) > 1 for c in self.choices]


@dataclass(slots=True)
class Played:
    """What an iteration played.

    Attributes:
        traces: the episodes, in the order they were asked for.
        state_keys: for each episode the keys of the states its actions were taken in (where asked for).
        sequences: one or more for each episode.
        rewards: shape (E, S): what a step added to the score, and `invalid_reward`. mask: shape (E, S), bool.
        recorded: shape (E, P), the log-probabilities noted while playing (at temperature 1).
        step_of_position: shape (E, P), -1 where there is none. counts: shape (E, P), bool: had an alternative.
        truncated: shape (E,), bool: ended by the step limit.
    """

    traces: list[Trace]
    state_keys: list[list[str | None]]
    sequences: list[ActedSequence]
    rewards: torch.Tensor
    mask: torch.Tensor
    recorded: torch.Tensor
    step_of_position: torch.Tensor
    counts: torch.Tensor
    truncated: torch.Tensor

    def summary(self) -> dict[str, float]:
        """Means over the episodes (invalid_actions: over their steps)."""
        n, steps = len(self.traces), int(self.mask.sum())
        return {
            "reward": float(self.rewards.sum()) / n,
            "success": sum(t.success for t in self.traces) / n,
            "score": sum(t.score for t in self.traces) / n,
            "episode_steps": steps / n,
            "invalid_actions": sum(s.invalid_action for t in self.traces for s in t.steps) / max(1, steps),
        }

    @property
    def step_counts(self) -> torch.Tensor:
        """Shape (E, S), bool: whether the step's action had an alternative."""
        found = torch.zeros_like(self.mask)
        episodes, positions = self.counts.nonzero(as_tuple=True)
        found[episodes, self.step_of_position[episodes, positions]] = True
        return found


def play(
    trainer: Trainer, tasks: Sequence[str], temperature: float, invalid_reward: float, *, state_key: bool = False,
    final_turns: bool = False,
) -> Played:  # fmt: skip
    """Play a task once for each time it is named, with draws of its own, and prepare the episodes for training.

    Args:
        trainer: whose policy plays.
        tasks: their ids.
        temperature: at which actions are drawn.
        invalid_reward: see `RLConfig`.
        state_key: note the key of every state.
        final_turns: sequences of truncated episodes go on with the last observation, so that its value can be read.

    Raises:
        ConfigError: the policy's decoding has no log-probabilities to learn from.
        ValueError: no action had any alternative.
    """
    policy = trainer.policy
    if policy.decoding.mode == "choice":
        raise ConfigError(f"{trainer.name} needs decoding 'constrained' or 'free': 'choice' draws whole actions")
    recorder = _Recorder(trainer.sampler(temperature), state_key)
    seed = int(trainer.rng.integers(2**31))
    traces = trainer.play(recorder, [EpisodeSpec(task_id, seed + i) for i, task_id in enumerate(tasks)])
    noted = recorder.notes()
    sequences: list[ActedSequence] = []
    keys, recorded = [], []
    for number, trace in enumerate(traces):
        notes = noted[trace.task_id, tuple(trace.actions)]
        keys.append([key for _, key in notes])
        found, logprobs = _acted(policy, number, trace, [templates for templates, _ in notes])
        if final_turns and trace.end_reason == "step_limit":
            _add_final_turn(policy, found[-1], trace)
        sequences += found
        recorded.append(logprobs)
    rewards = [[s.reward + invalid_reward * s.invalid_action for s in trace.steps] for trace in traces]
    steps: list[list[int]] = [[] for _ in traces]
    counts: list[list[bool]] = [[] for _ in traces]
    for sequence in sequences:
        steps[sequence.episode] += sequence.steps
        counts[sequence.episode] += sequence.counts
    if not any(map(any, counts)):
        raise ValueError("the action mask is empty: no action of the played episodes had any alternative")
    return Played(
        traces, keys, sequences, _pad(rewards, 0.0), _pad([[True] * len(row) for row in rewards], False),
        _pad(recorded, 0.0), _pad(steps, -1), _pad(counts, False),
        torch.tensor([trace.end_reason == "step_limit" for trace in traces]),
    )  # fmt: skip


def _acted(
    policy: LMPolicy, episode: int, trace: Trace, templates: list[list[str]]
) -> tuple[list[ActedSequence], list[float]]:
    """The sequences of an episode and the recorded log-probabilities of its positions."""
    found: list[ActedSequence] = []
    logprobs: list[float] = []
    for segment in segments_of_trace(trace, policy.prompt):
        sequence = ActedSequence(segment.ids, episode, segment.steps[0], len(logprobs), [], [], [], [], [])
        for (start, end), number in zip(segment.actions, segment.steps, strict=True):
            step = trace.steps[number]
            trie = policy.trie({"admissible_actions": step.admissible_actions, "open_actions": templates[number]})
            walk = trie.walk() if trie else None
            choices: list[list[int] | np.ndarray | None] = []
            for token in segment.ids[start:end]:
                choices.append(None if walk is None else walk.allowed())
                if walk is not None:
                    walk.step(token)
            free = [i for i, c in enumerate(choices) if not isinstance(c, list) or len(c) > 1] or [0]
            sequence.states.append(start - 1)
            sequence.places += [start + i - 1 for i in free]
            sequence.targets += [segment.ids[start + i] for i in free]
            sequence.choices += [choices[i] for i in free]
            sequence.steps += [number] * len(free)
            logprobs += [(step.logprobs or [])[i] for i in free]
        found.append(sequence)
    return found, logprobs


def _add_final_turn(policy: LMPolicy, sequence: ActedSequence, trace: Trace) -> None:
    """Append the last observation; where it does not fit, the value of the last state has to stand in."""
    turn, _ = policy.prompt.turn(trace.goal, trace.final_observation)
    if len(sequence.ids) + len(turn) <= policy.prompt.config.window:
        sequence.ids = sequence.ids + turn
        sequence.final = len(sequence.ids) - 1
    else:
        sequence.final = sequence.states[-1]


def _pad(rows: Sequence[Sequence[Any]], value: Any) -> torch.Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


# --- batches -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ActedBatch:
    """Padded sequences; N positions and M steps in all.

    Attributes:
        ids: shape (B, T).
        rows, columns, places, targets: shape (N,): sequence, number within it, place that predicts it, and token.
        at: shape (N, 2), episode and number of the position within it (an index into (E, P)).
        step: shape (N,): which of the M steps. counts: shape (N,), bool: had an alternative.
        step_rows, states: shape (M,), sequence and place before the action. step_at: shape (M, 2), index into (E, S).
        final: shape (F, 3), sequence, place and episode of observations that no action followed.
        listed: shape (L,), positions whose allowed tokens are `choices`, shape (L, K), where `valid`, bool; `index`,
            shape (L,), is the target among them.
        dense: shape (D,), the other positions. allowed: shape (D, V), bool; None when everything is.
    """

    ids: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    places: torch.Tensor
    targets: torch.Tensor
    at: torch.Tensor
    step: torch.Tensor
    counts: torch.Tensor
    step_rows: torch.Tensor
    states: torch.Tensor
    step_at: torch.Tensor
    final: torch.Tensor
    listed: torch.Tensor
    choices: torch.Tensor
    valid: torch.Tensor
    index: torch.Tensor
    dense: torch.Tensor
    allowed: torch.Tensor | None

    def take(self, values: torch.Tensor) -> torch.Tensor:
        """Shape (N,): what the positions have in an (E, P) array."""
        return values[self.at[:, 0], self.at[:, 1]]

    def take_steps(self, values: torch.Tensor) -> torch.Tensor:
        """Shape (M,): what the steps have in an (E, S) array."""
        return values[self.step_at[:, 0], self.step_at[:, 1]]

    def grid(self, values: torch.Tensor) -> torch.Tensor:
        """Shape (B, C), a row for each sequence, of values of positions (N,); 0 elsewhere."""
        empty = values.new_zeros(self.ids.shape[0], int(self.columns.max()) + 1)
        return empty.index_put((self.rows, self.columns), values)

    def per_step(self, values: torch.Tensor) -> torch.Tensor:
        """Shape (M,): sums over the positions (N,) of each step."""
        return values.new_zeros(len(self.states)).index_add(0, self.step, values)


def acted_batch(sequences: Sequence[ActedSequence], vocabulary: int, device: Any = "cpu") -> ActedBatch:
    """Lay out sequences.

    Args:
        sequences: with at least one step each.
        vocabulary: V, of the model's logits.
        device: where the tensors are put.
    """
    ids = torch.zeros(len(sequences), max(len(s.ids) for s in sequences), dtype=torch.long)
    positions: list[tuple[int, ...]] = []
    steps: list[tuple[int, ...]] = []
    final: list[tuple[int, int, int]] = []
    counts: list[bool] = []
    allowed_tokens: list[list[int] | np.ndarray | None] = []
    for row, s in enumerate(sequences):
        ids[row, : len(s.ids)] = torch.tensor(s.ids)
        for i, (place, target, step) in enumerate(zip(s.places, s.targets, s.steps, strict=True)):
            own = len(steps) + step - s.first_step
            positions.append((row, i, place, target, s.episode, s.first_position + i, own))
        steps += [(row, state, s.episode, s.first_step + i) for i, state in enumerate(s.states)]
        counts += s.counts
        allowed_tokens += s.choices
        if s.final is not None:
            final.append((row, s.final, s.episode))
    lists = [(i, c) for i, c in enumerate(allowed_tokens) if isinstance(c, list)]
    others = [(i, c) for i, c in enumerate(allowed_tokens) if not isinstance(c, list)]
    choices = _pad([c for _, c in lists], -1) if lists else torch.zeros(0, 1, dtype=torch.long)
    allowed = None
    if any(c is not None for _, c in others):
        allowed = torch.ones(len(others), vocabulary, dtype=torch.bool)
        for row, (_, mask) in enumerate(others):
            if mask is not None:
                allowed[row] = False
                allowed[row, : len(mask)] = torch.from_numpy(mask[:vocabulary])
    index = [c.index(positions[i][3]) for i, c in lists]
    table, step_table = torch.tensor(positions), torch.tensor(steps)
    return ActedBatch(
        *(tensor if tensor is None else tensor.to(device) for tensor in (
            ids, table[:, 0], table[:, 1], table[:, 2], table[:, 3], table[:, 4:6], table[:, 6], torch.tensor(counts),
            step_table[:, 0], step_table[:, 1], step_table[:, 2:], torch.tensor(final, dtype=torch.long).reshape(-1, 3),
            torch.tensor([i for i, _ in lists], dtype=torch.long), choices.clamp(min=0), choices >= 0,
            torch.tensor(index, dtype=torch.long), torch.tensor([i for i, _ in others], dtype=torch.long), allowed,
        ))
    )  # fmt: skip


class Reading(NamedTuple):
    """What a model says of a batch.

    Attributes:
        logprobs, entropy: shape (N,), of each position's token, and of the distribution it was drawn from.
    """

    logprobs: torch.Tensor
    entropy: torch.Tensor


def read(model: Any, batch: ActedBatch, temperature: float = 1.0) -> Reading:
    """Log-probabilities and entropies over what was allowed, in one pass over the sequences."""
    logits = logits_at(model, batch.ids, batch.rows, batch.places) / temperature
    logprobs = logits.new_zeros(len(batch.rows))
    entropy = logits.new_zeros(len(batch.rows))
    for at, chosen, target, allowed in (
        (batch.listed, logits[batch.listed].gather(1, batch.choices), batch.index, batch.valid),
        (batch.dense, logits[batch.dense], batch.targets[batch.dense], batch.allowed),
    ):
        if len(at):
            logprobs = logprobs.index_put((at,), token_logprobs(chosen, target, allowed))
            entropy = entropy.index_put((at,), categorical_entropy(chosen, allowed))
    return Reading(logprobs, entropy)


@contextmanager
def _hidden_states(model: Any) -> Iterator[list[torch.Tensor]]:
    """Yields a list to which each pass of the model meanwhile adds its last hidden states, shape (B, T, H)."""
    kept: list[torch.Tensor] = []
    handle = model.base_model.register_forward_hook(lambda module, given, output: kept.append(output[0].float()))
    try:
        yield kept
    finally:
        handle.remove()


def _grouped(sequences: Sequence[ActedSequence], tokens: int) -> Iterator[list[ActedSequence]]:
    """About equally long sequences together, at most `tokens` tokens with padding."""
    group: list[ActedSequence] = []
    for sequence in sorted(sequences, key=lambda s: len(s.ids)):
        if group and len(sequence.ids) * (len(group) + 1) > tokens:
            yield group
            group = []
        group.append(sequence)
    if group:
        yield group


def _vocabulary(policy: LMPolicy) -> int:
    return int(policy.model.get_output_embeddings().weight.shape[0])


# --- learning ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Acted:
    """What models say of the played episodes before the first update.

    Attributes:
        old: shape (E, P), log-probabilities under the acting policy, at the sampling temperature.
        reference: shape (E, P), the same under the reference; None without one.
        step_features, position_features: shape (E, S, H) and (E, P, H), hidden states before each action and each
            position; final_features: shape (E, H), after the last observation. Only the ones asked for.
        gap: the largest difference between a recorded and a recomputed log-probability; NaN at another temperature
            than 1, of which nothing is recorded.
    """

    old: torch.Tensor
    reference: torch.Tensor | None
    step_features: torch.Tensor
    position_features: torch.Tensor
    final_features: torch.Tensor
    gap: float


@torch.no_grad()
def survey(
    policy: LMPolicy, reference: Any | None, played: Played, config: RLConfig, features: str | None = None
) -> Acted:
    """Read all episodes with the policy as it is, and with the reference.

    Args:
        policy, reference: the acting policy, and a frozen model or None.
        played: the episodes.
        config: temperature and batch size.
        features: "step" or "token": which hidden states to keep, for a critic.
    """
    device, (episodes, longest) = policy.model.device, played.counts.shape
    width = policy.model.config.get_text_config().hidden_size
    old = torch.zeros(episodes, longest, device=device)
    other = None if reference is None else torch.zeros_like(old)
    by_step = torch.zeros(episodes, played.mask.shape[1] if features == "step" else 0, width, device=device)
    by_position = torch.zeros(episodes, longest if features == "token" else 0, width, device=device)
    final = torch.zeros(episodes, width, device=device)
    policy.model.eval()
    for group in _grouped(played.sequences, config.batch_tokens):
        batch = acted_batch(group, _vocabulary(policy), device)
        with _hidden_states(policy.model) as kept:
            logprobs = read(policy.model, batch, config.temperature).logprobs
        (hidden,), at = kept, batch.at.unbind(1)
        old[at] = logprobs
        if other is not None:
            other[at] = read(reference, batch, config.temperature).logprobs
        if features == "step":
            by_step[batch.step_at.unbind(1)] = hidden[batch.step_rows, batch.states]
        if features == "token":
            by_position[at] = hidden[batch.rows, batch.places]
        if len(batch.final):
            final[batch.final[:, 2]] = hidden[batch.final[:, 0], batch.final[:, 1]]
    gap = float((old.cpu() - played.recorded).abs().max()) if config.temperature == 1 else float("nan")
    return Acted(old, other, by_step, by_position, final, gap)


def improve(
    trainer: Trainer,
    sequences: Sequence[ActedSequence],
    acted: Acted,
    advantages: torch.Tensor,
    config: RLConfig,
    *,
    level: str = "token",
    per: str = "token",
) -> dict[str, float]:
    """An iteration's updates of the policy: PPO's clipped loss, KL to the reference, entropy.

    Args:
        trainer: whose policy is updated.
        sequences: what to learn from.
        acted: `survey` of the same episodes.
        advantages: shape (E, S) with level "step", whose ratios are those of whole actions; else (E, P).
        config: ranges, weights and the sizes of updates.
        level: "step" or "token".
        per: "token" or "sequence", see `masked_mean` (level "token" only).

    Returns:
        Means over the updates, by their names in the log.
    """
    model = trainer.policy.model
    learner = _Learner(model, acted, advantages.to(model.device), config, level, per)
    updates = 0
    model.train()
    for _ in range(config.epochs):
        for part in _minibatches(trainer.rng, sequences, config.minibatches):
            if trainer.exhausted or learner.too_far:
                break
            batches = [
                acted_batch(group, _vocabulary(trainer.policy), model.device)
                for group in _grouped(part, config.batch_tokens)
            ]
            tokens = sum(batch.ids.numel() for batch in batches)
            batches = [batch for batch in batches if bool(batch.counts.any())]
            if batches:
                learner.begin()
                trainer.update(learner.losses(batches), tokens=tokens)
                updates += 1
    model.eval()
    return {"updates": updates, **{name: total / max(1, updates) for name, total in learner.sums.items()}}


def _minibatches(
    rng: np.random.Generator, sequences: Sequence[ActedSequence], number: int
) -> Iterator[list[ActedSequence]]:
    """Split sequences at random into parts of about equally many tokens."""
    order = [sequences[int(i)] for i in rng.permutation(len(sequences))]
    ends = np.cumsum([len(s.ids) for s in order])
    part = np.minimum((ends - 1) * number // max(1, ends[-1]), number - 1) if len(order) else []
    for i in range(number):
        chosen = [s for s, p in zip(order, part, strict=True) if p == i]
        if chosen:
            yield chosen


class _Learner:
    """The loss of one update, batch by batch."""

    def __init__(
        self, model: Any, acted: Acted, advantages: torch.Tensor, config: RLConfig, level: str, per: str
    ) -> None:
        self.model, self.acted, self.advantages, self.config = model, acted, advantages, config
        self.level, self.per = level, per
        names = ["loss", "entropy", "clip_fraction", "approx_kl"]
        self.sums = dict.fromkeys(names + ["kl_reference"] * (acted.reference is not None), 0.0)
        self._kl_before = 0.0

    def begin(self) -> None:
        """Of an update."""
        self._kl_before = self.sums["approx_kl"]

    @property
    def too_far(self) -> bool:
        """Whether the last update found the policy farther from the acting one than `target_kl`."""
        target = self.config.target_kl
        return target is not None and self.sums["approx_kl"] - self._kl_before > target

    def losses(self, batches: Sequence[ActedBatch]) -> Iterator[torch.Tensor]:
        """Losses that add up to the mean over all batches."""
        sizes = [self._size(batch) for batch in batches]
        for batch, size in zip(batches, sizes, strict=True):
            share = size / sum(sizes)
            values = self._loss(batch)
            for name, value in values.items():
                self.sums[name] += share * float(value.detach())
            yield share * values["loss"]

    def _size(self, batch: ActedBatch) -> int:
        """What a mean is taken over."""
        if self.level == "step":
            return int((batch.per_step(batch.counts.float()) > 0).sum())
        return int(batch.counts.sum()) if self.per == "token" else int(batch.grid(batch.counts).any(dim=1).sum())

    def _loss(self, batch: ActedBatch) -> dict[str, torch.Tensor]:
        config = self.config
        reading = read(self.model, batch, config.temperature)
        old, counts = batch.take(self.acted.old), batch.grid(batch.counts)
        if self.level == "step":
            new, before = batch.per_step(reading.logprobs)[None], batch.per_step(old)[None]
            advantages, mask, per = (
                batch.take_steps(self.advantages)[None], batch.per_step(batch.counts.float())[None] > 0, "token",
            )  # fmt: skip
        else:
            new, before = batch.grid(reading.logprobs), batch.grid(old)
            advantages, mask, per = batch.grid(batch.take(self.advantages)), counts, self.per
        result = ppo_policy_loss(
            new, before, advantages, mask, clip=config.clip_ratio, clip_high=config.clip_ratio_high, per=per
        )
        entropy = masked_mean(batch.grid(reading.entropy), counts, per)
        values = {"entropy": entropy, "clip_fraction": result.clip_fraction, "approx_kl": result.approx_kl}
        loss = result.loss - config.entropy_weight * entropy
        if self.acted.reference is not None:
            kl = kl_estimate(reading.logprobs, batch.take(self.acted.reference), "k3")
            values["kl_reference"] = masked_mean(batch.grid(kl), counts, per)
            loss = loss + config.kl_weight * values["kl_reference"]
        return {"loss": loss, **values}
