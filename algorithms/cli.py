"""`stepagent train`: any algorithm on any env from the command line."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from algorithms import ALGORITHMS, algorithm_class, load_class, load_policy
from algorithms.algorithm import ConfigError, EnvSpec, RunLog
from stepagent_envs.errors import StepAgentError, did_you_mean

__all__ = ["main"]

_USAGE = "usage: stepagent train ALGORITHM --env ENV_ID [--out FOLDER] [settings of the algorithm; see --help]"


@dataclass(frozen=True)
class _Run:
    """Where to train, from what, and where to write.

    Attributes:
        env: Gymnasium id, for example StepAgent-ALFWorld-v0 ("module:Id-v0" imports the module first).
        out: folder of the run: config, metrics, and the policy in `policy/`.
        init: folder of a policy to start from; without it, the algorithm starts as its config says.
        split: split to train on.
        env_args: further settings of the env, as KEY=VALUE, for example max_steps=30 data=official.
        recipe: settings known to work on this world within minutes on two cores; what is given besides wins.
        quiet: no progress bar.
    """

    env: str
    out: Path = Path("runs/train")
    init: Path | None = None
    split: str = "train"
    env_args: list[str] = field(default_factory=list)
    recipe: bool = False
    quiet: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run `stepagent train`; returns the exit status. Errors a user can mend are one line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    out = sys.stdout
    if not arguments or arguments[0] in ("-h", "--help"):
        out.write(f"{_USAGE}\n\nalgorithms: {', '.join(ALGORITHMS)}, or module:Class of your own\n")
        return 0 if arguments else 2
    try:
        return _train(arguments[0], arguments[1:])
    except StepAgentError as error:
        sys.stderr.write(f"stepagent train: {error}\n")
        return 2


def _train(name: str, arguments: list[str]) -> int:
    import tyro

    algorithm = algorithm_class(name)
    default: Any = algorithm.Config()
    if "--recipe" in arguments:
        default = _recipe(name, arguments, default)
    combined = dataclasses.make_dataclass(
        "Train",
        [
            ("run", Annotated[_Run, tyro.conf.arg(name="")]),
            ("config", Annotated[algorithm.Config, tyro.conf.arg(name="")], field(default=default)),
        ],
        frozen=True,
    )
    parsed: Any = tyro.cli(
        combined,
        args=arguments,
        prog=f"stepagent train {name}",
        description=(algorithm.__doc__ or "").strip(),
    )
    run: _Run = parsed.run
    policy = None
    if run.init is not None:
        policy = load_policy(run.init)
    log = RunLog(run.out, progress=not run.quiet)
    try:
        trained = algorithm(parsed.config).train(policy, EnvSpec(run.env, _env_args(run.env_args), run.split), log)
    finally:
        log.close()
    trained.save(run.out / "policy")
    sys.stdout.write(f"policy: {run.out / 'policy'}\nmetrics: {run.out / 'metrics.jsonl'}\n")
    return 0


def _recipe(name: str, arguments: list[str], default: Any) -> Any:
    recipes = load_class("baselines.recipes:RECIPES")  # of a higher layer, hence by name
    env_id = next((b for a, b in itertools.pairwise(arguments) if a == "--env"), "")
    key = (name, env_id)
    if key not in recipes:
        known = ", ".join(f"{a} on {e}" for a, e in recipes)
        raise ConfigError(f"there is no recipe for {name} on {env_id or 'this env'}; known: {known}")
    return recipes[key]


def _env_args(pairs: list[str]) -> dict[str, Any]:
    """`["max_steps=30", "data=official"]` as keyword arguments; numbers and true/false/none become values."""
    words: dict[str, Any] = {"true": True, "false": False, "none": None}
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ConfigError(f"env setting {pair!r} is no KEY=VALUE; {did_you_mean(key, ['max_steps=30'])}")
        settings[key] = words.get(value.lower(), int(value) if value.lstrip("-").isdigit() else value)
    return settings
