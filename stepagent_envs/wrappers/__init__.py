"""Wrappers around the text envs: discrete choice (for libraries that want arrays), history, and recording."""

from __future__ import annotations

from stepagent_envs.wrappers.discrete import ChoiceConfig, ChoiceEncoder, DiscreteChoice
from stepagent_envs.wrappers.features import hashed_text, words
from stepagent_envs.wrappers.history import HistoryWindow, window_text
from stepagent_envs.wrappers.record import RecordTraces

__all__ = [
    "ChoiceConfig",
    "ChoiceEncoder",
    "DiscreteChoice",
    "HistoryWindow",
    "RecordTraces",
    "hashed_text",
    "window_text",
    "words",
]
