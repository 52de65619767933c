"""The worlds in the shape that outside trainers ask for, one file each. None of them needs the trainer installed."""

from stepagent_envs.adapters.trl import environment, final_score
from stepagent_envs.adapters.verl_agent import VerlAgentEnvs

__all__ = ["VerlAgentEnvs", "environment", "final_score"]
