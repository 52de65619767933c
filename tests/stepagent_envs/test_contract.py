"""Every world keeps the contract of `TextEnv`. A new world is covered by its line in the registry."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
import warnings
from collections.abc import Iterator

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from stepagent_envs import WORLDS
from stepagent_envs.core import INFO_KEYS, TextEnv
from stepagent_envs.errors import DataError, TaskError
from stepagent_envs.tasks import hash_ids
from stepagent_envs.traces import Trace

IDS = [gym_id for gym_id, _ in WORLDS.values()]
HOSTILE = {
    "empty": "",
    "blank": "   ",
    "a megabyte": "x" * 1_000_000,
    "a megabyte of words": "go to " * 170_000,
    "NUL": "go\0to",
    "emoji": "🙂🔥",
    "right to left": "\u202eافتح الباب\u202c",
    "newlines": "look\nlook\r\n\n",
    "half an action": "click[",
    "half a sentence": "take the",
    "no verb of anyone's": "frobnicate[[[]]",
    "ALFWorld's": "go to armchair 77",
    "WebShop's": "click[zzzz no such button]",
    "ScienceWorld's": "focus on the unobtainium",
    "a number": "999999",
    "format string": "{0} %s %n ${HOME}",
    "lone surrogate": "\ud800",
    "escape": "\x1b[31mred",
    "JSON": '{"action": null}',
}


@pytest.fixture(scope="module", params=IDS)
def env(request: pytest.FixtureRequest) -> Iterator[TextEnv]:
    made = gym.make(request.param, expert=True, disable_env_checker=True)
    yield made.unwrapped
    made.close()


def _solvable(env: TextEnv) -> str:
    """A task whose expert knows the way."""
    for task in env.tasks("train"):
        _, info = env.reset(options={"task_id": task.id})
        if info["expert_action"] is not None:
            return task.id
    raise AssertionError("the expert knows no task of the train split")


@pytest.mark.parametrize("gym_id", IDS)
def test_gymnasium_checker_passes_without_warnings(gym_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(gym_id, render_mode="ansi", disable_env_checker=True)
        check_env(env.unwrapped)
        env.close()


@pytest.mark.parametrize("gym_id", IDS)
def test_sync_vector_env_works(gym_id: str) -> None:
    envs = gym.make_vec(gym_id, num_envs=2, vectorization_mode="sync")
    observations, infos = envs.reset(seed=3)
    assert len(observations) == 2 and all(isinstance(text, str) and text for text in observations)
    actions = tuple(infos["admissible_actions"][i][0] for i in range(2))
    observations, rewards, terminated, truncated, infos = envs.step(actions)
    assert len(observations) == 2 and rewards.shape == terminated.shape == truncated.shape == (2,)
    assert list(infos["invalid_action"]) == [False, False]
    envs.close()


def test_info_holds_every_key(env: TextEnv) -> None:
    observation, info = env.reset(seed=0)
    assert set(INFO_KEYS) <= set(info)
    assert (info["steps"], info["end_reason"], info["success"], info["invalid_action"]) == (0, None, False, False)
    assert info["task_id"].startswith(f"{env.world}:") and info["task_id"] in env.tasks("train")
    action = info["admissible_actions"][0]
    observation, reward, terminated, truncated, after = env.step(action)
    assert set(INFO_KEYS) <= set(after) and after["steps"] == 1 and 0.0 <= after["score"] <= 1.0
    assert reward == pytest.approx(after["score"] - info["score"])
    assert isinstance(observation, str) and isinstance(terminated, bool) and isinstance(truncated, bool)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_actions_change_nothing(env: TextEnv, name: str) -> None:
    env.reset(options={"task_id": env.tasks("train")[0].id})
    key = env.state_key()
    admissible = env.admissible_actions()
    observation, reward, terminated, truncated, info = env.step(HOSTILE[name])
    assert info["invalid_action"] and info["error"], "a refusal says why"
    assert isinstance(observation, str) and observation
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert env.state_key() == key
    assert env.admissible_actions() == admissible


def test_listed_actions_are_accepted(env: TextEnv) -> None:
    task_id = _solvable(env)
    env.reset(options={"task_id": task_id})
    rng = random.Random(0)
    for _ in range(3):
        here = env.snapshot()
        actions = env.admissible_actions()
        for action in rng.sample(actions, min(12, len(actions))):
            _, _, _, _, info = env.step(action)
            assert not info["invalid_action"], (action, info["error"])
            env.restore(here)
        _, _, terminated, _, _ = env.step(env.expert_action() or actions[0])
        if terminated:
            break


def test_expert_traces_replay_and_survive_json(env: TextEnv) -> None:
    task_id = _solvable(env)
    env.reset(options={"task_id": task_id})
    before = env.state_key()
    trace = env.expert_trace()
    assert env.state_key() == before, "recording must not disturb the running episode"
    again = Trace.model_validate_json(trace.model_dump_json(exclude_none=True))
    assert again == trace
    replay = again.replay(env)
    assert (replay.score, replay.success, replay.end_reason) == (trace.score, trace.success, trace.end_reason)
    assert trace.success and trace.score == 1.0 and trace.end_reason == "solved"


def test_snapshots_branch(env: TextEnv) -> None:
    task_id = _solvable(env)
    env.reset(options={"task_id": task_id})
    env.step(env.expert_action() or env.admissible_actions()[0])
    here = env.snapshot()
    key = env.state_key()
    futures = []
    for _ in range(2):
        future = []
        for _ in range(4):
            action = env.expert_action()
            if action is None:
                break
            future.append((action, *env.step(action)[:4]))
        futures.append(future)
        observation, info = env.restore(here)
        assert env.state_key() == key and info["steps"] == 1 and observation == here.outcome.observation
    assert futures[0] == futures[1] and futures[0]


def test_step_limit_truncates() -> None:
    env = gym.make(IDS[0], max_steps=2).unwrapped
    _, info = env.reset(seed=1)
    env.step("")
    _, _, terminated, truncated, info = env.step("")
    assert (terminated, truncated, info["end_reason"], info["admissible_actions"]) == (False, True, "step_limit", [])
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.step("look")
    env.close()


def test_splits_are_frozen_and_disjoint(env: TextEnv) -> None:
    assert {"train", "dev"} <= set(env.splits) and len(env.splits) > 2
    everything = set(env.tasks("all").ids)
    train = set(env.tasks("train").ids)
    for name in env.splits:
        ids = env.tasks(name).ids
        assert set(ids) <= everything and len(ids) == len(set(ids))
        assert env.tasks(name).hash == hash_ids(ids)
    for name in ("dev", "test", "valid_seen", "valid_unseen"):
        if name in env.splits:
            assert not train & set(env.tasks(name).ids)


def test_task_sets_travel_between_processes(env: TextEnv) -> None:
    for name in (*env.splits, "all"):
        tasks = env.tasks(name)
        copy = pickle.loads(pickle.dumps(tasks))
        assert copy.ids == tasks.ids and copy[0] == tasks[0] and copy[-1] == tasks[-1]


@pytest.mark.parametrize("gym_id", IDS)
def test_wrong_names_get_one_clear_line(gym_id: str) -> None:
    with pytest.raises(TaskError, match="train"):
        gym.make(gym_id, split="trian").unwrapped.reset()
    with pytest.raises((DataError, TaskError), match=r"no such|stepagent data|does not exist"):
        gym.make(gym_id, data="/no/such/place").unwrapped.reset()
    for bad in (
        {"expert": "nobody"},
        {"max_steps": 0},
        {"max_steps": "some"},
        {"compat": "mine"},
        {"admissible": "template"},
    ):
        with pytest.raises(TaskError) as caught:
            gym.make(gym_id, **bad)
        assert "\n" not in str(caught.value)
    env = gym.make(gym_id)
    with pytest.raises(TaskError, match="no task"):
        env.reset(options={"task_id": "nonsense"})
    with pytest.raises(TaskError, match="task_id"):
        env.reset(options={"task": "x"})
    env.reset(seed=0)
    with pytest.raises(TypeError, match="str"):
        env.step(3)
    env.close()


def test_global_randomness_is_neither_read_nor_written(env: TextEnv) -> None:
    episodes = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (the user's, on purpose)
        before = (random.getstate(), np.random.get_state()[1].tobytes())  # noqa: NPY002
        episodes.append(_episode(env))
        assert (random.getstate(), np.random.get_state()[1].tobytes()) == before  # noqa: NPY002
    assert episodes[0] == episodes[1]


def _episode(env: TextEnv, steps: int = 5) -> list[object]:
    """A seeded episode of the expert with a detour, as plain values."""
    observation, info = env.reset(seed=11)
    record: list[object] = [observation, info]
    for i in range(steps):
        actions = info["admissible_actions"]
        action = actions[len(actions) // 2] if i == 1 else info["expert_action"] or actions[0]
        observation, reward, terminated, truncated, info = env.step(action)
        record.append([action, observation, reward, terminated, truncated, info, env.state_key()])
        if terminated or truncated:
            break
    return record


def test_the_same_seed_gives_the_same_episode_everywhere(env: TextEnv) -> None:
    first = json.dumps(_episode(env))
    assert json.dumps(_episode(env)) == first
    script = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import gymnasium, stepagent_envs, test_contract;"
        f"env = gymnasium.make({env.env_id!r}, expert=True, disable_env_checker=True).unwrapped;"
        "print(json.dumps(test_contract._episode(env))); env.close()"
    )
    here = os.path.dirname(__file__)  # noqa: PTH120
    for hash_seed in ("0", "4711"):
        environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", script, here], capture_output=True, text=True, env=environ, check=True
        )
        assert done.stdout.strip() == first


def test_the_worlds_need_no_java(env: TextEnv, tmp_path: os.PathLike[str]) -> None:
    script = (
        "import gymnasium, stepagent_envs;"
        f"env = gymnasium.make({env.env_id!r}, expert=True)\n"
        f"_, info = env.reset(options={{'task_id': {_solvable(env)!r}}})\n"
        "for _ in range(10):\n"
        "    _, _, terminated, truncated, info = env.step(info['expert_action'] or info['admissible_actions'][0])\n"
        "    if terminated or truncated: break\n"
        "print(info['steps']); env.close()"
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith("JAVA") and k != "JDK_HOME"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**environ, "PATH": str(tmp_path)},
        check=True,
    )
    assert int(done.stdout) >= 1


def test_specs_serialise(env: TextEnv) -> None:
    spec = gym.spec(env.env_id)
    assert gym.envs.registration.EnvSpec.from_json(spec.to_json()) == spec
