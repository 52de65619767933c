"""Where a shopping episode stands, as small immutable values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

__all__ = ["PAGE_SIZE", "PageKind", "Session", "State", "SUB_PAGES", "View"]

PAGE_SIZE = 10
"""Products on a result page."""

SUB_PAGES = ("Description", "Features", "Reviews", "Attributes")

PageKind = Literal["search", "results", "item", "sub", "done"]


@dataclass(frozen=True, slots=True)
class Session:
    """What the shop remembers of a customer.

    Attributes:
        keywords: words of the last search, None before the first. page: result page, from 1.
        asin: the product looked at. options: its chosen (name, value) pairs, in the order of choosing.
    """

    keywords: tuple[str, ...] | None = None
    page: int = 0
    asin: str | None = None
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """The page shown: its kind, the session it was made from, a sub-page's name, the reward on the last page."""

    kind: PageKind
    session: Session
    sub: str = ""
    reward: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """State of an episode.

    Attributes:
        view: the page shown. session: what the shop remembers – the same as the view's, except after an error of the
            original that `compat="original"` repeats.
        seen: products opened since the last visit to the search page (`text_rich` marks them).
    """

    view: View
    session: Session
    seen: frozenset[str] = frozenset()

    def key(self, with_seen: bool) -> str:
        """A key that equal states share; `with_seen` where opened products are marked on result pages."""
        parts: list[object] = [self.view.kind, self.view.sub]
        for session in (self.view.session,) if self.view.session == self.session else (self.view.session, self.session):
            parts += [session.keywords, session.page, session.asin, sorted(session.options)]
        if with_seen:
            parts.append(sorted(self.seen))
        return json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
