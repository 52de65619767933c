"""Text-action agent environments for Gymnasium, with experts attached.

Importing this package registers `StepAgent-ALFWorld-v0`, `StepAgent-ScienceWorld-v0` and `StepAgent-WebShop-v0` and
loads nothing heavy: a world's engine is imported when `gymnasium.make` first asks for it.
"""

from stepagent_envs.registry import WORLDS, env_id, register

__all__ = ["WORLDS", "__version__", "env_id"]
__version__ = "0.1.0"

register()
