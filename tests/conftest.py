"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and reference transcripts: beside the checkout, or named by STEPAGENT_SHARED."""
    path = Path(os.environ.get("STEPAGENT_SHARED", ROOT.parent / "shared"))
    if not (path / "reference").is_dir():
        pytest.skip(f"no reference data at {path.name!r} beside the checkout (set STEPAGENT_SHARED)")
    return path


@pytest.fixture(autouse=True)
def _own_data_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never read or write the user's data home (one folder a run, so that an import can be shared)."""
    monkeypatch.setenv("STEPAGENT_HOME", str(tmp_path_factory.getbasetemp() / "home"))
