"""A wrapper that writes down every episode as a trace."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import IO, Any

import gymnasium as gym

from stepagent_envs.core import TextEnv
from stepagent_envs.errors import TaskError, TraceError
from stepagent_envs.traces import TraceBuilder, append_jsonl
from stepagent_envs.wrappers.discrete import DiscreteChoice
from stepagent_envs.wrappers.history import HistoryWindow

__all__ = ["RecordTraces"]


class RecordTraces(gym.Wrapper[str, str, str, str], gym.utils.RecordConstructorArgs):
    """Appends every episode to a JSONL file of traces, forced to the disk, so that agent code cannot forget it.

    An episode is written when it ends, or, if it has steps, when `reset` or `close` breaks it off (its `end_reason` is
    then None). A line that a killed run left cut off is removed when recording begins.

    Args:
        env: the text env itself, or wrappers that leave observations and actions alone: the trace must replay.
        path: the file; it is made if need be, and never emptied. Give every process a file of its own.
        policy: short name of who acts.
        seed: the policy's seed, where it draws.

    Raises:
        TaskError: what is wrapped is no text env, changes what is seen or done, or the file would be compressed.
    """

    def __init__(
        self, env: gym.Env[str, str], path: str | Path, policy: str = "unknown", seed: int | None = None
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, path=str(path), policy=policy, seed=seed)
        gym.Wrapper.__init__(self, env)
        if not isinstance(env.unwrapped, TextEnv):
            raise TaskError(f"traces are recorded of text envs, got {type(env.unwrapped).__name__}")
        inner: gym.Env[Any, Any] = env
        while isinstance(inner, gym.Wrapper):
            if isinstance(inner, (DiscreteChoice, HistoryWindow, gym.ObservationWrapper, gym.ActionWrapper)):
                raise TaskError(
                    f"put RecordTraces inside {type(inner).__name__}: a trace holds what the env itself says"
                )
            inner = inner.env
        self._world: TextEnv = env.unwrapped
        self._path = Path(path)
        if self._path.suffix == ".xz":
            raise TaskError(f"{path}: episodes are appended as plain JSONL; name the file .jsonl and compress it later")
        self._policy, self._seed = policy, seed
        self._file: IO[str] | None = None
        self._builder: TraceBuilder | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """As the env's; an episode that was broken off is written first."""
        self._write()
        observation, info = self.env.reset(seed=seed, options=options)
        self._builder = TraceBuilder.of(self._world, observation, info, policy=self._policy, seed=self._seed)
        return observation, info

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """As the env's; writes the episode when it ends.

        Raises:
            TraceError: the env was set back (`restore`) since the last step, so that no trace could replay.
        """
        builder = self._builder
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except Exception:
            self._builder = None  # the episode is broken: neither whole nor broken off by choice
            raise
        if builder is not None:
            builder.add(action, observation, float(reward), info)
            if info["steps"] != len(builder.steps):
                self._builder = None
                raise TraceError(f"{info['task_id']}: the env was set back while its episode was recorded; reset() it")
        if terminated or truncated:
            self._write()
        return observation, float(reward), terminated, truncated, info

    def close(self) -> None:
        """Write an episode that is broken off, and close file and env."""
        self._write()
        if self._file is not None:
            self._file.close()
            self._file = None
        super().close()

    def _write(self) -> None:
        builder, self._builder = self._builder, None
        if builder is None or not builder.steps:
            return
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _cut_torn_line(self._path)
            self._file = open(self._path, "a", encoding="utf-8", newline="\n")  # noqa: SIM115
        append_jsonl(self._file, builder.build())


def _cut_torn_line(path: Path) -> None:
    """Remove what follows the last newline of a file."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:
            start = max(0, keep - 65536)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            keep = start + newline + 1 if newline >= 0 else start
            if newline >= 0:
                break
        if keep < end:
            warnings.warn(f"{path}: removed a last line that was cut off", stacklevel=2)
            file.truncate(keep)
