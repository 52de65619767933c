"""The quick job: trains once, resumes, and says when a checkpoint is of another recipe. Needs torch."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from baselines import recipes
from leaderboard import training
from leaderboard.benchmark import load_benchmark, restrict
from stepagent_envs.errors import StepAgentError


def test_training_happens_once(tmp_path, monkeypatch):
    section = restrict(load_benchmark("quick-v1"), ["alfworld"]).worlds[0]
    key = ("sft", section.env_id)
    tiny = dataclasses.replace(recipes.RECIPES[key], max_steps=2, num_traces=4, threads=1)
    monkeypatch.setitem(recipes.RECIPES, key, tiny)
    folder = tmp_path / "sft" / "alfworld"
    said: list[str] = []
    training.train(section, "sft", folder, said.append)
    assert (folder / "training" / "metrics.jsonl").is_file() and not folder.with_name("alfworld.part").exists()
    stamp = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    training.train(section, "sft", folder, said.append)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == stamp
    assert said == ["training sft on alfworld (train split)"]
    monkeypatch.setitem(recipes.RECIPES, key, dataclasses.replace(tiny, max_steps=3))
    training.train(section, "sft", folder, said.append)
    assert "delete the folder to train anew" in said[-1]


def test_every_world_of_the_quick_benchmark_has_a_recipe():
    for section in load_benchmark("quick-v1").worlds:
        assert ("sft", section.env_id) in recipes.RECIPES


def test_worlds_train_side_by_side_and_an_error_reaches_the_owner(tmp_path):
    """In processes of their own; what they cannot do ends the whole with their message."""
    sections = restrict(load_benchmark("quick-v1"), ["alfworld", "webshop"]).worlds
    for section in sections:
        section.train_splits = ["nowhere"]
    said: list[str] = []
    with pytest.raises(StepAgentError, match="nowhere"):
        training.train_all(sections, "sft", tmp_path, said.append, processes=2)
    assert not any((tmp_path / section.world).exists() for section in sections)
    assert sum(line.startswith("training sft on") for line in said) >= 1
