"""Makes the report of a set of runs: `leaderboard.md`, `leaderboard.csv`, `board.json` and the page, from one board."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leaderboard.board import Board, Entry, build_board, find_results, read_entry
from leaderboard.provenance import describe_commit, now
from leaderboard.site import write_site
from leaderboard.store import write_json
from leaderboard.tables import csv_text, markdown

__all__ = ["board_of", "write_report"]


def board_of(folders: Sequence[Path]) -> tuple[Board, dict[tuple[str, str], Path]]:
    """The board of the runs in (or below) some folders, and the folder of each (benchmark, row key)."""
    entries = [read_entry(folder) for folder in find_results(folders)]
    board = build_board(entries)
    return board, _folders(board, entries)


def _folders(board: Board, entries: Sequence[Entry]) -> dict[tuple[str, str], Path]:
    found = {}
    for table in board.tables:
        for row in table.rows:
            for entry in entries:
                if entry.result is row.result and entry.folder is not None:
                    found[table.benchmark, row.key] = entry.folder
    return found


def write_report(folders: Sequence[Path], out: Path, *, episodes: bool = True) -> tuple[Board, Path]:
    """Write tables and page.

    Args:
        folders: of runs, or folders that hold such folders.
        out: folder of the report.
        episodes: whether the page's viewer gets the episodes.

    Returns:
        The board, and the path of the page.
    """
    board, where = board_of(folders)
    page = write_site(board, where if episodes else {}, out, f"Made {now()}{describe_commit()}.")
    (out / "leaderboard.md").write_text(markdown(board), encoding="utf-8", newline="\n")
    (out / "leaderboard.csv").write_text(csv_text(board), encoding="utf-8", newline="\n")
    write_json(out / "board.json", board)
    return board, page
