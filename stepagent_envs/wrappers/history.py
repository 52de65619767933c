"""A wrapper that shows the last steps in the observation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from stepagent_envs.errors import TaskError

__all__ = ["HistoryWindow", "window_text"]


def window_text(observations: Sequence[str], actions: Sequence[str], pairs: int, keep_first: bool = False) -> str:
    """An episode's last steps as one text: the last (action, observation) pairs, oldest first, actions after `> `.

    Args:
        observations: all observations so far, one more than there are actions.
        actions: all actions so far.
        pairs: how many pairs are shown; 0 shows the current observation alone.
        keep_first: always begin with the episode's first observation (rooms and the task are often described there).

    Returns:
        The text. Its last lines are always the current observation.
    """
    shown = min(pairs, len(actions))
    if shown == 0:
        start = [observations[0]] if keep_first and actions else []
        return "\n".join([*start, observations[-1]])
    lines = [observations[0]] if keep_first or shown == len(actions) else []
    for action, observation in zip(actions[-shown:], observations[-shown:], strict=True):
        lines += [f"> {action}", observation]
    return "\n".join(lines)


class HistoryWindow(gym.Wrapper[str, str, str, str], gym.utils.RecordConstructorArgs):
    """Shows the last (action, observation) pairs in the observation (see `window_text`).

    Args:
        env: a text env.
        pairs: how many pairs; the first observation is shown too while the whole episode fits.
        keep_first: always show the first observation.
    """

    def __init__(self, env: gym.Env[str, str], pairs: int = 3, keep_first: bool = False) -> None:
        if pairs < 0:
            raise TaskError(f"pairs must be at least 0, got {pairs}")
        gym.utils.RecordConstructorArgs.__init__(self, pairs=pairs, keep_first=keep_first)
        gym.Wrapper.__init__(self, env)
        self._pairs, self._keep_first = pairs, keep_first
        self._observations: list[str] = []
        self._actions: list[str] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """As the env's; the window begins anew."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._observations, self._actions = [observation], []
        return self._text(), info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """As the env's, with the window as observation."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._observations.append(observation)
        self._actions.append(action)
        return self._text(), float(reward), terminated, truncated, info

    def _text(self) -> str:
        return window_text(self._observations, self._actions, self._pairs, self._keep_first)
