"""The adapters play whole episodes as the env itself does."""

from __future__ import annotations

import inspect

import gymnasium as gym
import pytest

from stepagent_envs.adapters import VerlAgentEnvs, environment, final_score
from stepagent_envs.adapters.verl_agent import tagged_action

ENV_ID = "StepAgent-ALFWorld-v0"


@pytest.mark.parametrize("workers", [0, 2])
def test_verl_agent_groups_play_the_same_task_to_its_end(workers: int) -> None:
    envs = VerlAgentEnvs(ENV_ID, 2, 3, seed=5, expert=True, workers=workers, split="valid_unseen")
    try:
        observations, infos = envs.reset()
        tasks = [info["task_id"] for info in infos]
        assert tasks[0] == tasks[1] == tasks[2] != tasks[3] == tasks[5]
        assert len(set(observations["anchor"][:3])) == 1 and observations["anchor"][0] != observations["anchor"][3]
        assert infos[0]["goal"] in observations["text"][0] and "<action>" in observations["text"][0]
        history = [[] for _ in infos]
        total, ended = [0.0] * 6, [False] * 6
        for _ in range(60):
            answers = [f"I think. <action>{info['expert_action']}</action>" for info in infos]
            answers[1] = "no tags at all"
            observations, rewards, dones, infos = envs.step(answers)
            for i, info in enumerate(infos):
                if not ended[i]:
                    history[i].append(info)
                    total[i] += rewards[i]
                else:
                    assert rewards[i] == 0.0
            ended = list(dones)
            if all(ended):
                break
        assert all(ended)
        found = envs.success_evaluator(total_infos=history)
        assert list(found["success_rate"]) == [1, 0, 1, 1, 1, 1] == [round(t) for t in total]
        assert not any(info["is_action_valid"] for info in history[1]) and len(history[1]) == 50
        assert all(info["is_action_valid"] for info in history[0])
        again, _ = envs.reset([{"task_id": tasks[3]}, {"task_id": tasks[0]}])
        assert again["anchor"][0] != again["anchor"][3]
    finally:
        envs.close()


def test_the_last_tagged_action_counts() -> None:
    assert tagged_action("<action>look</action> or rather <action> go to desk 1\n</action>") == "go to desk 1"
    assert tagged_action("<action>look") is None


def test_trl_environment_is_played_through_its_tool() -> None:
    factory = environment(ENV_ID, split="valid_unseen", expert=True)
    task = gym.make(ENV_ID).unwrapped.tasks("valid_unseen").ids[3]
    env, other = factory(), factory()
    first = env.reset(task_id=task, prompt="ignored column")
    assert "Goal: " in first and "You can: " in first
    assert first == other.reset(task_id=task)
    assert "no such" not in env.act("look") and "(" in other.act("dance wildly")
    while not env.done:
        said = env.act(env._info["expert_action"])
    assert said.endswith("The episode is over.") and env.success
    assert final_score([env, other], completions=["", ""]) == [1.0, 0.0]
    with pytest.raises(ValueError, match="over"):
        env.act("look")
    tool = inspect.signature(factory.act)
    assert list(tool.parameters) == ["self", "action"] and "Args:" in (factory.act.__doc__ or "")
