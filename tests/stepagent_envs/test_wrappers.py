"""Wrappers: a discrete choice that hides nothing, a window on the past, and traces that replay."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepagent_envs.core import Outcome, TextEnv
from stepagent_envs.errors import InfrastructureError, TaskError, TraceError
from stepagent_envs.tasks import Task, TaskSet
from stepagent_envs.traces import read_traces
from stepagent_envs.wrappers import (
    ChoiceConfig,
    ChoiceEncoder,
    DiscreteChoice,
    HistoryWindow,
    RecordTraces,
    hashed_text,
    window_text,
)
from stepagent_envs.wrappers.discrete import Page

DOORS = 7


class DoorsEnv(TextEnv):
    """Seven doors; the goal names the right one. Or ask for it: `ask[door n]`."""

    world: ClassVar[str] = "doors"
    env_id: ClassVar[str] = "StepAgent-Doors-v0"
    experts: ClassVar[tuple[str, ...]] = ("expert", "oracle")
    data_hash = hashlib.sha256(b"doors").hexdigest()
    splits = ("train",)

    def tasks(self, split: str) -> TaskSet:
        ids = [f"doors:builtin:{i}" for i in range(DOORS)]
        return TaskSet(split, ids, lambda task_id: Task(task_id, "door", "train"))

    def _default_step_limit(self, task: Task) -> int:
        return 5

    def _start(self, task: Task) -> Outcome:
        self._door, self._opened = int(task.id[-1]), 0
        return Outcome("A hall with doors.", extra={"open_actions": ["ask[{}]"]})

    def _goal(self) -> str:
        return f"door {self._door}"

    def _admissible(self) -> list[str]:
        return [f"open door {i}" for i in range(DOORS)]

    def _apply(self, action: str) -> Outcome:
        extra = {"open_actions": ["ask[{}]"]}
        if action == "break":
            raise InfrastructureError("broken")
        won = action in (f"open door {self._door}", f"ask[door {self._door}]")
        if not won and action not in self._admissible():
            return Outcome("Nothing happens.", error="no such action", extra=extra)
        self._opened += 1
        return Outcome("A garden." if won else "A wall.", float(won), float(won), won, won, extra=extra)

    def _expert(self, name: str) -> str:
        return f"open door {self._door}"

    def _state_key(self) -> str:
        return str(self._opened)

    def _save(self) -> Any:
        return self._opened

    def _load(self, task: Task, state: Any) -> None:
        self._start(task)
        self._opened = state


# --- hashed text -----------------------------------------------------------------------------------------------------


def test_hashed_text_is_the_same_everywhere() -> None:
    script = "from stepagent_envs.wrappers import hashed_text; print(hashed_text('Put the Red apple, 3!', 8).tolist())"
    printed = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert printed == {str(hashed_text("put the red apple 3", 8).tolist())}
    frozen = [0, 0, 1, 0, -1, 2, -1, 0]  # of 9 n-grams; a changed hash would make every trained model worthless
    np.testing.assert_allclose(
        hashed_text("put the red apple 3", 8), np.array(frozen) / np.linalg.norm(frozen), atol=1e-6
    )


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.integers(1, 64), st.integers(1, 3))
def test_hashed_text_has_length_1_or_0(text: str, dim: int, ngrams: int) -> None:
    vector = hashed_text(text, dim, ngrams)
    assert vector.shape == (dim,) and vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5) or not vector.any()


def test_hashed_text_tells_word_order_and_likeness() -> None:
    near = hashed_text("open drawer 1", 4096) @ hashed_text("open drawer 2", 4096)
    far = hashed_text("open drawer 1", 4096) @ hashed_text("go to the garden", 4096)
    assert near == pytest.approx(3 / 5) and far == 0, "3 of 5 n-grams are shared, or none"
    assert not np.allclose(hashed_text("a in b", 256), hashed_text("b in a", 256))
    assert np.allclose(hashed_text("a in b", 256, ngrams=1), hashed_text("b in a", 256, ngrams=1))


# --- discrete choice -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_sb3s_and_gymnasiums_checkers_pass() -> None:
    from gymnasium.utils.env_checker import check_env as gymnasium_check

    gymnasium_check(DiscreteChoice(DoorsEnv()), skip_render_check=True)
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    for config in (None, ChoiceConfig(max_actions=3, state_dim=8, action_dim=4)):
        checker.check_env(DiscreteChoice(HistoryWindow(DoorsEnv(), 2), config))


def test_choices_are_the_admissible_actions_in_order_then_the_open_ones() -> None:
    env = DiscreteChoice(DoorsEnv(), ChoiceConfig(max_actions=10))
    _, info = env.reset(options={"task_id": "doors:builtin:4"})
    assert info["choices"] == [*info["admissible_actions"], "ask[door 4]"] and info["page"] == 0
    assert env.action_masks().tolist() == [True] * 8 + [False] * 2
    _, reward, terminated, _, info = env.step(7)
    assert reward == 1 and terminated and info["success"] and info["choices"] == []
    assert env.action_masks().sum() == 1, "a mask is never all False"


def test_every_action_can_be_reached_by_turning_pages() -> None:
    env = DiscreteChoice(DoorsEnv(), ChoiceConfig(max_actions=3))
    start, info = env.reset(options={"task_id": "doors:builtin:6"})
    assert start[-1] == 1, "the last number's row says that it turns the page"
    offered: list[str] = []
    while True:
        offered += info["choices"]
        if len(info["choices"]) != 2 or not env.action_masks()[2]:
            break
        observation, reward, terminated, truncated, info = env.step(2)
        assert (reward, terminated, truncated, info["steps"]) == (0, False, False, 0)
        assert env.observation_space.contains(observation)
    assert offered == [*info["admissible_actions"], "ask[door 6]"] and info["page"] == 3
    assert observation[-1] == 0
    _, reward, *_, info = env.step(0)
    assert reward == 1 and info["steps"] == 1

    first = DiscreteChoice(DoorsEnv(), ChoiceConfig(max_actions=3, overflow="first"))
    _, info = first.reset(seed=0)
    assert info["choices"] == info["admissible_actions"][:3] and first.action_masks().all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=5), max_size=30, unique=True), st.integers(2, 9))
def test_pages_hold_each_action_once(actions: list[str], most: int) -> None:
    pages = ChoiceEncoder(ChoiceConfig(max_actions=most)).pages("", "", {"admissible_actions": actions})
    assert [action for page in pages for action in page.actions] == actions
    assert all(len(page.actions) + page.more <= most for page in pages)
    assert [page.more for page in pages] == [True] * (len(pages) - 1) + [False]


def test_a_number_without_an_action_is_refused_and_costs_a_step() -> None:
    env = DiscreteChoice(DoorsEnv(), ChoiceConfig(max_actions=10))
    env.reset(seed=0)
    _, reward, *_, info = env.step(9)
    assert info["invalid_action"] and info["steps"] == 1 and reward == 0
    with pytest.raises(TaskError, match="from 0 to 9, got 10"):
        env.step(10)


def test_observations_tell_goals_actions_and_the_past_apart() -> None:
    config = ChoiceConfig(max_actions=10, state_dim=32, action_dim=16)
    env = DiscreteChoice(DoorsEnv(), config)
    observation, _ = env.reset(options={"task_id": "doors:builtin:4"})
    rows = observation[config.state_size :].reshape(10, config.action_size)
    assert len({row.tobytes() for row in rows[:8]}) == 8 and not rows[8:].any()
    assert rows[4, -4] == pytest.approx(2 / 3), "'door 4' of 'open door 4' is in the goal"
    assert rows[3, -4] == pytest.approx(1 / 3)
    other, _ = env.reset(options={"task_id": "doors:builtin:5"})
    assert not np.allclose(observation[:32], other[:32]) and np.allclose(observation[32:96], other[32:96])
    after, *_ = env.step(1)
    assert after[64:96].any() and not other[64:96].any(), "actions so far"
    assert after[config.state_size :].reshape(10, -1)[:3, -2].tolist() == [0, 1, 0], "done before"


def test_open_actions_can_offer_words() -> None:
    encoder = ChoiceEncoder(ChoiceConfig(slots="words"))
    info = {"admissible_actions": ["look"], "open_actions": ["say[{}]"]}
    [page] = encoder.pages("Say it", "A note: plum.", info)
    assert page.actions == ("look", "say[Say it]", "say[say]", "say[it]", "say[a]", "say[note]", "say[plum]")


def test_what_cannot_work_is_refused_with_a_reason() -> None:
    with pytest.raises(TaskError, match="admissible=True"):
        DiscreteChoice(DoorsEnv(admissible=False)).reset(seed=0)
    with pytest.raises(TaskError, match="max_actions must be at least 2, got 1"):
        ChoiceConfig(max_actions=1)
    with pytest.raises(TaskError, match="overflow must be one of"):
        ChoiceConfig(overflow="drop")
    with pytest.raises(TaskError, match="pairs must be at least 0"):
        HistoryWindow(DoorsEnv(), -1)


def test_encoder_is_a_pure_function_of_what_it_is_given() -> None:
    page = Page(("a", "b"), True)
    one, two = ChoiceEncoder(ChoiceConfig()), ChoiceEncoder(ChoiceConfig())
    two.observation("other", "text", ["x"], Page(("c",), False))
    np.testing.assert_array_equal(one.observation("g", "o", ["a"], page), two.observation("g", "o", ["a"], page))


# --- history ---------------------------------------------------------------------------------------------------------


def test_window_shows_the_last_pairs() -> None:
    observations, actions = ["o0", "o1", "o2", "o3"], ["a1", "a2", "a3"]
    assert window_text(observations, actions, 0) == "o3"
    assert window_text(observations, actions, 2) == "> a2\no2\n> a3\no3"
    assert window_text(observations, actions, 2, keep_first=True) == "o0\n> a2\no2\n> a3\no3"
    assert window_text(observations, actions, 3) == window_text(observations, actions, 9)
    assert window_text(observations, actions, 3) == "o0\n> a1\no1\n> a2\no2\n> a3\no3"
    assert window_text(observations, actions, 0, keep_first=True) == "o0\no3"
    assert window_text(["o0"], [], 2, keep_first=True) == "o0"


def test_history_wrapper_follows_the_episode() -> None:
    env = HistoryWindow(DoorsEnv(), pairs=1)
    assert env.reset(seed=0)[0] == "A hall with doors."
    env.step("open door 99")
    text, *_ = env.step("sing")
    assert text == "> sing\nNothing happens."
    assert env.reset(seed=0)[0] == "A hall with doors.", "the window begins anew"


# --- recording -------------------------------------------------------------------------------------------------------


def test_recorded_episodes_replay(tmp_path: Path) -> None:
    path = tmp_path / "new" / "traces.jsonl"
    env = HistoryWindow(RecordTraces(DoorsEnv(), path, policy="me", seed=3))
    env.reset(options={"task_id": "doors:builtin:2"})
    env.step("open door 0")
    env.step("open door 2")
    assert len(list(read_traces(path))) == 1, "on the disk as soon as it ended"
    env.reset(options={"task_id": "doors:builtin:1"})
    env.step("open door 0")
    env.reset(seed=0)  # breaks it off
    env.reset(seed=0)  # nothing was done: nothing to write
    env.close()
    done, broken = read_traces(path)
    assert (done.policy, done.seed, done.actions, done.success) == ("me", 3, ["open door 0", "open door 2"], True)
    assert done.observations == ["A hall with doors.", "A wall.", "A garden."], "what the env said, not the window"
    assert (broken.task_id, broken.end_reason) == ("doors:builtin:1", None)
    for trace in (done, broken):
        trace.replay(DoorsEnv())


def test_recording_goes_on_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    for _ in range(2):
        env = RecordTraces(DoorsEnv(), path)
        env.reset(seed=0)
        env.step("open door 0")
        env.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"schema_version":1,"env_id":"St')
    env = RecordTraces(DoorsEnv(), path)
    env.reset(seed=0)
    env.step("open door 1")
    with pytest.warns(UserWarning, match="removed a last line"):
        env.close()
    assert len(list(read_traces(path))) == 3 and path.read_bytes().startswith(whole)


def test_recording_never_writes_a_false_trace(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    env = RecordTraces(DoorsEnv(), path)
    env.reset(seed=0)
    here = env.unwrapped.snapshot()
    env.step("open door 99")
    env.unwrapped.restore(here)
    with pytest.raises(TraceError, match="set back"):
        env.step("open door 99")
    env.reset(seed=0)
    env.step("open door 99")
    with pytest.raises(InfrastructureError):
        env.step("break")
    env.close()
    assert not path.exists()
    with pytest.raises(TaskError, match="inside HistoryWindow"):
        RecordTraces(HistoryWindow(DoorsEnv()), path)
    with pytest.raises(TaskError, match=r"name the file \.jsonl"):
        RecordTraces(DoorsEnv(), "t.jsonl.xz")
    with pytest.raises(TaskError, match="text envs"):
        RecordTraces(gym.make("CartPole-v1"), path)


def test_wrappers_need_no_torch() -> None:
    script = "import sys, stepagent_envs.wrappers; print(sorted({'torch', 'stable_baselines3'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
