"""The quick job: trains once, resumes, and says when a checkpoint is of another recipe. Needs torch."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from algorithms import load_policy
from algorithms.stepagent.implicit import StepAgentImplicitConfig
from baselines import recipes
from leaderboard import training
from leaderboard.benchmark import load_benchmark, restrict
from leaderboard.quick import quick_jobs
from stepagent_envs.errors import StepAgentError


def test_training_happens_once(tmp_path, monkeypatch):
    section = restrict(load_benchmark("quick-v1"), ["alfworld"]).worlds[0]
    key = ("sft", section.env_id)
    tiny = dataclasses.replace(recipes.RECIPES[key], max_steps=2, num_traces=4, threads=1)
    monkeypatch.setitem(recipes.RECIPES, key, tiny)
    folder = tmp_path / "sft" / "alfworld"
    job = training.TrainJob(section, "sft", folder)
    said: list[str] = []
    training.train(job, said.append)
    assert (folder / "training" / "metrics.jsonl").is_file() and not folder.with_name("alfworld.part").exists()
    stamp = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    training.train(job, said.append)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == stamp
    assert said == ["training sft on alfworld (train split)"]
    monkeypatch.setitem(recipes.RECIPES, key, dataclasses.replace(tiny, max_steps=3))
    training.train(job, said.append)
    assert "delete the folder to train anew" in said[-1]


def test_a_training_that_starts_from_another_waits_for_it(tmp_path, monkeypatch):
    section = restrict(load_benchmark("quick-v1"), ["alfworld"]).worlds[0]
    start = tmp_path / "sft" / "alfworld"
    tiny = dataclasses.replace(recipes.RECIPES["sft", section.env_id], max_steps=2, num_traces=4, threads=1)
    later = StepAgentImplicitConfig(cycles=1, num_tasks=2, threads=1)
    said: list[str] = []
    jobs = [
        training.TrainJob(section, "stepagent-implicit", tmp_path / "implicit", start, later),
        training.TrainJob(section, "sft", start, config=tiny),
    ]
    training.train_all(jobs, said.append, processes=2)
    assert said == [
        "training sft on alfworld (train split)",
        "training stepagent-implicit on alfworld (train split)",
    ]
    assert load_policy(tmp_path / "implicit").name == "stepagent-implicit"
    loop = [training.TrainJob(section, "sft", tmp_path / "loop", tmp_path / "loop", config=tiny)]
    with pytest.raises(StepAgentError, match="waits for it"):
        training.train_all(loop, said.append)


def test_every_learner_of_the_quick_job_has_a_recipe_for_every_world(tmp_path):
    jobs = quick_jobs("quick-v1", tmp_path)
    assert {job.algorithm for job in jobs} == {"sft", "eto", "stepagent-implicit", "stepagent-inverse"}
    for job in jobs:
        assert (job.algorithm, job.section.env_id) in recipes.RECIPES
        assert (job.init is None) == (job.algorithm == "sft")


def test_worlds_train_side_by_side_and_an_error_reaches_the_owner(tmp_path):
    """In processes of their own; what they cannot do ends the whole with their message."""
    sections = restrict(load_benchmark("quick-v1"), ["alfworld", "webshop"]).worlds
    for section in sections:
        section.train_splits = ["nowhere"]
    said: list[str] = []
    jobs = [training.TrainJob(section, "sft", tmp_path / section.world) for section in sections]
    with pytest.raises(StepAgentError, match="nowhere"):
        training.train_all(jobs, said.append, processes=2)
    assert not any((tmp_path / section.world).exists() for section in sections)
    assert sum(line.startswith("training sft on") for line in said) >= 1
