"""The exceptions of the leaderboard. Each message is one line that says what is wrong and what to do."""

from __future__ import annotations

from stepagent_envs.errors import StepAgentError

__all__ = ["AgentError", "BenchmarkError", "StoreError", "VerifyError"]


class BenchmarkError(StepAgentError):
    """A benchmark that does not exist, is malformed, or is not the one that was frozen."""


class AgentError(StepAgentError):
    """An agent that cannot be loaded or may not take part."""


class StoreError(StepAgentError):
    """A folder of results that is damaged, in use, or belongs to another run."""


class VerifyError(StepAgentError):
    """A submission that is not what it claims to be."""
