from __future__ import annotations

import json

import pytest

from algorithms.cli import main

ENV = ["--env", "toy_world:StepAgent-Toy-v0"]


def test_training_from_the_command_line_leaves_a_policy_that_can_be_gone_on_with(tmp_path, capsys):
    first, second = tmp_path / "a", tmp_path / "b"
    settings = ["--model", "nano", "--max-steps", "3", "--num-traces", "20", "--quiet"]
    assert main(["sft", *ENV, "--out", str(first), *settings, "--prompt.window", "800"]) == 0
    assert json.loads((first / "policy" / "policy.json").read_text())["prompt"]["window"] == 800
    assert main(["sft", *ENV, "--out", str(second), *settings, "--init", str(first / "policy")]) == 0
    assert str(second / "policy") in capsys.readouterr().out
    assert json.loads((second / "config.json").read_text())["config"]["max_steps"] == 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["sfd", *ENV], "did you mean 'sft'"),
        (["sft", *ENV, "--lr", "-1"], "lr must be above 0"),
        (["sft", *ENV, "--recipe"], "there is no recipe for sft on toy_world"),
        (["sft", *ENV, "--env-args", "steps", "--quiet"], "no KEY=VALUE"),
        (["sft", *ENV, "--split", "trian", "--quiet"], "no split 'trian'"),
        (["sft", *ENV, "--init", "nowhere", "--quiet"], "no such folder"),
        (["sft", *ENV, "--traces", "none.jsonl", "--quiet"], "no such trace file"),
    ],
)
def test_mistakes_are_one_line_on_standard_error(arguments, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1 and "Traceback" not in error
