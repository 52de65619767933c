from __future__ import annotations

import pytest

from stepagent_envs.errors import StepAgentError
from stepagent_envs.settings import as_pairs, key_values


def test_values_are_what_they_look_like():
    given = ["max_steps=30", "share=0.5", "data=official", "expert=True", "max_goal=none", "name=a=b", "lists=[1, 2]"]
    assert key_values(given, "--option") == {
        "max_steps": 30, "share": 0.5, "data": "official", "expert": True, "max_goal": None, "name": "a=b",
        "lists": [1, 2],
    }  # fmt: skip
    assert key_values(['name="12"'], "--option") == {"name": "12"}


def test_settings_written_down_are_read_as_they_were():
    settings = {
        "data": "12",
        "note": "none",
        "max_steps": 30,
        "share": 0.5,
        "expert": True,
        "goal": None,
        "of": [1, "2"],
    }
    assert key_values(as_pairs(settings), "--env-args") == settings


@pytest.mark.parametrize("pair", ["steps", "=3", "max-steps=3"])
def test_what_is_no_setting_is_refused(pair):
    with pytest.raises(StepAgentError, match=f"--env-args takes KEY=VALUE, got '{pair}'"):
        key_values(["a=1", pair], "--env-args")
