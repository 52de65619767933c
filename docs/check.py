"""Check the docs: every relative link leads somewhere, every code file they name exists.

Run with `make docs-check`. Exits with 1 and a line for each problem.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:stepagent_envs|algorithms|baselines|leaderboard|tests|docs)/[\w./-]+\.(?:py|toml|md|txt))`")


def problems(page: Path) -> list[str]:
    """One line for each broken link or missing file of a page."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT)
    found = []
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            continue
        if not (page.parent / target.split("#")[0]).exists():
            found.append(f"{name}: broken link {target}")
    for path in NAMED.findall(text):
        if not (ROOT / path).exists():
            found.append(f"{name}: names {path}, which does not exist")
    return found


def main() -> int:
    """Check README, CONTRIBUTING, CHANGELOG and everything under docs/."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    lines = [line for page in sorted(pages) for line in problems(page)]
    print("\n".join(lines) or f"{len(pages)} pages: every link leads somewhere")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
