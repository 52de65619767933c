"""From goals, observations and actions to token ids, once and for all.

`Context` turns a running episode into ids piece by piece. Acting and training both go through it, so the sequences a
model is trained on are exactly those that a policy sees, and what a model generated is never tokenised again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from algorithms.algorithm import ConfigError
from stepagent_envs.traces import Trace

__all__ = ["Context", "ContextStats", "PromptConfig", "PromptFormat", "Segment", "segments_of_trace"]

PROMPT_VERSION = 1
"""Raised whenever the same config would give other ids than before."""

_CACHE = 50_000  # texts whose ids are remembered


@dataclass(frozen=True)
class PromptConfig:
    """How an episode is laid out, and what happens when it grows too long.

    Attributes:
        style: "marks" (special tokens; for models trained from scratch) or "plain" (words; for any other model).
        window: the most tokens a model reads. When the next turn would not fit, the oldest turns are dropped until
            at most `keep` of the window is in use; the goal always stays. The rest is read again.
        keep: see `window`.
        max_goal_tokens, max_observation_tokens: longer ones lose their middle (a mark says where): three quarters of
            what is kept are from the start, one quarter from the end.
        max_action_tokens: room for one action.
        repeat_goal: say the goal again after each observation.
    """

    style: str = "marks"
    window: int = 1024
    keep: float = 0.5
    max_goal_tokens: int = 96
    max_observation_tokens: int = 256
    max_action_tokens: int = 48
    repeat_goal: bool = True

    def __post_init__(self) -> None:
        if self.style not in ("marks", "plain"):
            raise ConfigError(f"prompt style must be 'marks' or 'plain', got {self.style!r}")
        if not 0 < self.keep <= 1:
            raise ConfigError(f"prompt keep must be above 0 and at most 1, got {self.keep!r}")
        for name in ("window", "max_goal_tokens", "max_observation_tokens", "max_action_tokens"):
            if getattr(self, name) < 8:
                raise ConfigError(f"prompt {name} must be at least 8, got {getattr(self, name)!r}")
        least = 2 * self.max_goal_tokens + self.max_observation_tokens + self.max_action_tokens + 64
        if self.window < least:
            raise ConfigError(
                f"prompt window must be at least {least} (twice the goal, one observation, one action and 64 for the "
                f"layout), got {self.window}"
            )


class PromptFormat:
    """The layout of episodes for one tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer; with style "marks" it must know the marks of `algorithms.tokenizer`.
        config: the layout.

    Attributes:
        end_id: the token that ends an action.
    """

    def __init__(self, tokenizer: Any, config: PromptConfig | None = None) -> None:
        self.tokenizer = tokenizer
        self.config = config = config or PromptConfig()
        self._ids: dict[str, list[int]] = {}
        self.templates: dict[tuple[str, str], tuple[tuple[int, ...], tuple[int, ...]]] = {}
        """What decoding found out about open actions: text before and after the slot -> ids before and after it."""
        if config.style == "marks":
            vocabulary = tokenizer.get_vocab()
            missing = [mark for mark in ("<goal>", "<obs>", "<act>", "<end>", "<cut>") if mark not in vocabulary]
            if missing:
                raise ConfigError(f"prompt style 'marks' needs the token {missing[0]}, which this tokenizer lacks")
            self._goal, self._obs, self._act, self._cut = (
                [vocabulary[mark]] for mark in ("<goal>", "<obs>", "<act>", "<cut>")
            )
            self._recall = self._goal
            self.end_id: int = vocabulary["<end>"]
        else:
            first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
            self._goal = first + self._plain("Goal:")
            self._obs, self._act, self._cut = (self._plain(t) for t in ("\nObservation:", "\nAction:", " […] "))
            self._recall = self._plain("\nGoal:")
            self.end_id = self._plain("\n")[-1]

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the layout: its version and config, without the tokenizer."""
        content = json.dumps({"version": PROMPT_VERSION, **asdict(self.config)}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Ids of a text; nothing in it is taken for a special token."""
        ids = self._ids.get(text)
        if ids is None:
            if len(self._ids) >= _CACHE:
                self._ids.clear()
            ids = self._ids[text] = self._plain(text if self.config.style == "marks" else " " + text)
        return ids

    def encode_action(self, action: str) -> list[int]:
        """Ids of an action, its end included; cut to the room there is (the end stays)."""
        return [*self.encode(action)[: self.config.max_action_tokens - 1], self.end_id]

    def decode_action(self, ids: Sequence[int]) -> str:
        """The action that generated ids say; what follows an end is no part of it."""
        ids = list(ids)
        if self.end_id in ids:
            ids = ids[: ids.index(self.end_id)]
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def head(self, goal: str) -> list[int]:
        """What every sequence starts with."""
        return self._goal + self._shorten(self.encode(goal), self.config.max_goal_tokens)[0]

    def turn(self, goal: str, observation: str) -> tuple[list[int], bool]:
        """What precedes an action: the observation, and the goal again if so configured. Also: was it cut?"""
        body, cut = self._shorten(self.encode(observation), self.config.max_observation_tokens)
        recall: list[int] = []
        if self.config.repeat_goal:
            recall = self._recall + self._shorten(self.encode(goal), self.config.max_goal_tokens)[0]
        return [*self._obs, *body, *recall, *self._act], cut

    def is_start(self, ids: Sequence[int]) -> bool:
        """Whether prompt ids begin a sequence afresh (rather than go on from the action before)."""
        return list(ids[: len(self._goal)]) == self._goal

    def _shorten(self, ids: list[int], limit: int) -> tuple[list[int], bool]:
        if len(ids) <= limit:
            return ids, False
        tail = (limit - len(self._cut)) // 4
        start = limit - len(self._cut) - tail
        return [*ids[:start], *self._cut, *ids[len(ids) - tail :]], True

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))


@dataclass(slots=True)
class ContextStats:
    """How often episodes did not fit: observations cut, and restarts of the sequence with fewer turns."""

    observations: int = 0
    observations_cut: int = 0
    restarts: int = 0


@dataclass(slots=True)
class Context:
    """The token ids of one running episode.

    Attributes:
        ids: all that the model has read and said in the current sequence.
        restarts: how often the sequence was started afresh because it grew too long.
    """

    format: PromptFormat
    goal: str
    stats: ContextStats = field(default_factory=ContextStats)
    ids: list[int] = field(default_factory=list)
    restarts: int = 0
    _turns: list[list[int]] = field(default_factory=list)  # ids of each turn's observation part
    _actions: list[list[int]] = field(default_factory=list)  # ids of each turn's action
    _texts: list[str] = field(default_factory=list)  # each turn's action as text
    _first: int = 0  # the oldest turn still in `ids`

    def observe(self, observation: str) -> list[int]:
        """Add an observation; afterwards `ids` is what the next action is conditioned on.

        Returns:
            The ids that are new to the model: a continuation, or a whole new sequence (`PromptFormat.is_start`).
        """
        turn, cut = self.format.turn(self.goal, observation)
        self.stats.observations += 1
        self.stats.observations_cut += cut
        self._turns.append(turn)
        config = self.format.config
        if not self.ids:
            self.ids = self.format.head(self.goal) + turn
            return list(self.ids)
        if len(self.ids) + len(turn) + config.max_action_tokens <= config.window:
            self.ids = self.ids + turn
            return turn
        self.restarts += 1
        self.stats.restarts += 1
        head = self.format.head(self.goal)
        room = int(config.keep * config.window) - len(head) - len(turn)
        first = len(self._turns) - 1
        while first > self._first:
            size = len(self._turns[first - 1]) + len(self._actions[first - 1])
            if size > room:
                break
            room -= size
            first -= 1
        self._first = first
        self.ids = head
        for i in range(first, len(self._turns) - 1):
            self.ids = self.ids + self._turns[i] + self._actions[i]
        self.ids = self.ids + turn
        return list(self.ids)

    def act(self, action: str, ids: Sequence[int] | None = None) -> list[int]:
        """Add an action to the last turn: as generated (`ids`), or as text from elsewhere. Returns its ids."""
        ids = self.format.encode_action(action) if ids is None else list(ids)
        self._actions.append(ids)
        self._texts.append(action)
        self.ids = self.ids + ids
        return ids

    def follow(self, observations: Sequence[str], actions: Sequence[str]) -> list[int]:
        """Catch up with an episode, whose actions may differ from those this context was told.

        Returns:
            The ids that are new since the last agreed action (see `observe`).
        """
        rebuilt = False
        if self._texts != list(actions[: len(self._texts)]):
            agreed = next(i for i, text in enumerate(self._texts) if i >= len(actions) or text != actions[i])
            rebuilt = self._rewind(agreed)
        if len(self._turns) == len(observations):  # asked again without having acted
            rebuilt = self._rewind(len(self._texts)) or rebuilt
        new = self.observe(observations[len(self._turns)]) if len(self._turns) == len(self._actions) else []
        while len(self._actions) < len(actions):
            new = new + self.act(actions[len(self._actions)])
            more = self.observe(observations[len(self._turns)])
            new = more if self.format.is_start(more) else new + more
        return list(self.ids) if rebuilt else new

    def _rewind(self, turns: int) -> bool:
        """Go back to the moment before the observation of a turn. True if the sequence had to be built anew."""
        if turns <= self._first:  # the sequence of that time is gone: build it again from its texts
            kept = [(self._turns[i], self._actions[i], self._texts[i]) for i in range(turns)]
            self._turns = [turn for turn, _, _ in kept]
            self._actions = [action for _, action, _ in kept]
            self._texts = [text for _, _, text in kept]
            self._first = 0
            self.ids = self.format.head(self.goal) if turns else []
            for turn, action, _ in kept:
                self.ids = self.ids + turn + action
            return True
        dropped = sum(len(t) for t in self._turns[turns:]) + sum(len(a) for a in self._actions[turns:])
        self.ids = self.ids[: len(self.ids) - dropped]
        del self._turns[turns:], self._actions[turns:], self._texts[turns:]
        return False


@dataclass(slots=True)
class Segment:
    """One training sequence: what a policy read and said until its context was restarted (or the episode ended).

    Attributes:
        ids: token ids, shape (T,).
        actions: [start, end) of each action that was said in this sequence (actions read again are not among them).
        steps: which step of the trace each of them is.
    """

    ids: list[int]
    actions: list[tuple[int, int]]
    steps: list[int]

    @property
    def mask(self) -> list[bool]:
        """Shape (T,): True on the tokens of `actions`, the only ones that a loss may touch."""
        mask = [False] * len(self.ids)
        for start, end in self.actions:
            mask[start:end] = [True] * (end - start)
        return mask


def segments_of_trace(trace: Trace, prompt: PromptFormat, stats: ContextStats | None = None) -> list[Segment]:
    """The training sequences of an episode. Recorded token ids are used as they are; texts are tokenised here."""
    recorded = bool(trace.steps) and all(s.prompt_ids is not None and s.action_ids is not None for s in trace.steps)
    context = Context(prompt, trace.goal, stats or ContextStats())
    segments: list[Segment] = []
    for number, step in enumerate(trace.steps):
        new = list(step.prompt_ids or ()) if recorded else context.observe(step.observation)
        action = list(step.action_ids or ()) if recorded else context.act(step.action)
        if not segments or prompt.is_start(new):
            segments.append(Segment([], [], []))
        segment = segments[-1]
        start = len(segment.ids) + len(new)
        segment.ids += new + action
        segment.actions.append((start, start + len(action)))
        segment.steps.append(number)
    return segments
