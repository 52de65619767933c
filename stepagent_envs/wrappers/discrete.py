"""Text as a choice among numbers, for libraries that want arrays (Stable-Baselines3 and its like)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from stepagent_envs.errors import TaskError
from stepagent_envs.wrappers.features import hashed_text, overlap, words

__all__ = ["ChoiceConfig", "ChoiceEncoder", "DiscreteChoice", "Page"]

STATE_TEXTS = 3  # goal, observation, actions so far
EXTRAS = 4  # overlap with the goal, overlap with the observation, done before, "show the next page"


@dataclass(frozen=True)
class ChoiceConfig:
    """How a state becomes numbers.

    Attributes:
        max_actions: size of the action space.
        state_dim: length of each of the three state vectors (goal, observation, actions so far).
        action_dim: length of each action's vector.
        ngrams: the longest word n-grams that count.
        slots: what fills an open action such as `search[{}]`: "goal" offers the goal; "words" offers the goal and every
            word of goal and observation.
        overflow: what happens to actions beyond `max_actions`: "page" makes the last number "show the next page", which
            costs no step in the env; "first" leaves them out.
    """

    max_actions: int = 64
    state_dim: int = 256
    action_dim: int = 128
    ngrams: int = 2
    slots: str = "goal"
    overflow: str = "page"

    def __post_init__(self) -> None:
        for name, least in (("max_actions", 2), ("state_dim", 1), ("action_dim", 1), ("ngrams", 1)):
            if getattr(self, name) < least:
                raise TaskError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name, known in (("slots", ("goal", "words")), ("overflow", ("page", "first"))):
            if getattr(self, name) not in known:
                raise TaskError(f"{name} must be one of {list(known)}, got {getattr(self, name)!r}")

    @property
    def state_size(self) -> int:
        """Numbers that describe the state: they come first in the observation."""
        return STATE_TEXTS * self.state_dim

    @property
    def action_size(self) -> int:
        """Numbers that describe one action; `max_actions` times as many follow."""
        return self.action_dim + EXTRAS

    @property
    def size(self) -> int:
        """Length of the observation."""
        return self.state_size + self.max_actions * self.action_size


@dataclass(frozen=True)
class Page:
    """The actions on offer at once.

    Attributes:
        actions: their texts; action number i is `actions[i]`.
        more: the number `max_actions - 1` shows the next page.
    """

    actions: tuple[str, ...]
    more: bool


class ChoiceEncoder:
    """Turns an episode's texts into pages of actions, observations and masks: pure functions of what they are given.

    Args:
        config: sizes and rules.
    """

    def __init__(self, config: ChoiceConfig | None = None) -> None:
        self.config = config or ChoiceConfig()

    def pages(self, goal: str, observation: str, info: Mapping[str, Any]) -> list[Page]:
        """Everything on offer in a state: the admissible actions in the env's order, then the filled open actions.

        Raises:
            TaskError: the env does not list its admissible actions.
        """
        admissible, templates = info.get("admissible_actions"), info.get("open_actions") or ()
        if admissible is None:
            raise TaskError("a discrete choice needs the admissible actions: make the env with admissible=True")
        fillings = [goal]
        if self.config.slots == "words":
            fillings = list(dict.fromkeys([goal, *words(goal), *words(observation)]))
        ended = info.get("end_reason") is not None
        filled = [] if ended else [template.replace("{}", text) for template in templates for text in fillings]
        actions = tuple(dict.fromkeys([*admissible, *filled]))
        most = self.config.max_actions
        if self.config.overflow == "first":
            return [Page(actions[:most], False)]
        pages, start = [], 0
        while len(actions) - start > most:
            pages.append(Page(actions[start : start + most - 1], True))
            start += most - 1
        return [*pages, Page(actions[start:], False)]

    def observation(self, goal: str, observation: str, done: Sequence[str], page: Page) -> NDArray[np.float32]:
        """What the learner sees: goal, observation and actions so far, then every action of the page, all hashed.

        Args:
            goal, observation: as texts.
            done: the actions of the episode so far.
            page: the actions on offer.

        Returns:
            (size,), in [-1, 1]: `state_size` numbers, then `max_actions` times `action_size` (0 where there is none).
        """
        config = self.config
        state = [hashed_text(text, config.state_dim, config.ngrams) for text in (goal, observation)]
        past = np.zeros(config.state_dim, dtype=np.float32)
        for action in done:
            past += _hashed_action(action, config.state_dim, config.ngrams)
        length = float(np.linalg.norm(past))
        state.append(past / np.float32(length) if length > 0 else past)
        actions: NDArray[np.float32] = np.zeros((config.max_actions, config.action_size), dtype=np.float32)
        goal_words, seen_words, repeated = set(words(goal)), set(words(observation)), set(done)
        for row, action in zip(actions, page.actions, strict=False):
            row[: config.action_dim] = _hashed_action(action, config.action_dim, config.ngrams)
            row[config.action_dim : -1] = overlap(action, goal_words), overlap(action, seen_words), action in repeated
        if page.more:
            actions[-1, -1] = 1
        whole: NDArray[np.float32] = np.concatenate([*state, actions.ravel()])
        return whole.clip(-1, 1)  # rounding can leave a normalised vector's only entry just outside

    def mask(self, page: Page) -> NDArray[np.bool_]:
        """(max_actions,): which numbers stand for an action. Never all False: number 0 then is the empty action."""
        mask = np.zeros(self.config.max_actions, dtype=np.bool_)
        mask[: max(1, len(page.actions))] = True
        mask[-1] |= page.more
        return mask


@lru_cache(maxsize=1 << 14)
def _hashed_action(action: str, dim: int, ngrams: int) -> NDArray[np.float32]:
    """`hashed_text`, remembered: the same actions come back at every step. Callers only read it."""
    vector = hashed_text(action, dim, ngrams)
    vector.flags.writeable = False
    return vector


class DiscreteChoice(gym.Wrapper[NDArray[np.float32], np.int64, str, str], gym.utils.RecordConstructorArgs):
    """A text env as Box observations and Discrete actions (see `ChoiceConfig`), with `action_masks()` for sb3-contrib.

    A number that stands for no action is passed on as the empty action, which every world refuses: it costs a step.
    `info` has two keys more: `choices` (the texts on offer, in the order of their numbers) and `page`.

    Args:
        env: a text env with admissible actions.
        config: sizes and rules; None takes the defaults.
    """

    def __init__(self, env: gym.Env[str, str], config: ChoiceConfig | None = None) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, config=config)
        super().__init__(env)  # type: ignore[arg-type]  # Gymnasium 1.4 says that it wraps envs of the wrapper's own types
        self._text_env = env
        self.encoder = ChoiceEncoder(config)
        size = self.encoder.config.size
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (size,), np.float32)
        self.action_space = gym.spaces.Discrete(self.encoder.config.max_actions)
        self._pages = [Page((), False)]
        self._number = 0
        self._text = ""
        self._info: dict[str, Any] = {"goal": ""}
        self._done: list[str] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """As the env's, with the first page of actions."""
        text, info = self._text_env.reset(seed=seed, options=options)
        self._done = []
        return self._show(text, info)

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Do the action of a number, or turn the page (reward 0, no step of the env)."""
        number = int(action)
        if not 0 <= number < self.encoder.config.max_actions:
            raise TaskError(f"an action is a number from 0 to {self.encoder.config.max_actions - 1}, got {number}")
        page = self._pages[self._number]
        if page.more and number == self.encoder.config.max_actions - 1:
            self._number += 1
            return self._observation(), 0.0, False, False, self._shown_info()
        chosen = page.actions[number] if number < len(page.actions) else ""
        text, reward, terminated, truncated, info = self._text_env.step(chosen)
        self._done.append(chosen)
        observation, info = self._show(text, info)
        return observation, float(reward), terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """(max_actions,): which numbers stand for an action now."""
        return self.encoder.mask(self._pages[self._number])

    def _show(self, text: str, info: dict[str, Any]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        self._text, self._info, self._number = text, info, 0
        self._pages = self.encoder.pages(info["goal"], text, info)
        return self._observation(), self._shown_info()

    def _observation(self) -> NDArray[np.float32]:
        return self.encoder.observation(self._info["goal"], self._text, self._done, self._pages[self._number])

    def _shown_info(self) -> dict[str, Any]:
        return {**self._info, "choices": list(self._pages[self._number].actions), "page": self._number}
