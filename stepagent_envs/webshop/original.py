"""The original's own rules, errors included (`compat="original"`)."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace

from stepagent_envs.webshop import pages
from stepagent_envs.webshop.engine import Shop, Turn
from stepagent_envs.webshop.reward import Goal
from stepagent_envs.webshop.state import SUB_PAGES, Session, State, View

__all__ = ["BASE_URL", "Original", "url_of"]

BASE_URL = "http://127.0.0.1:3000"
_ACTION = re.compile(r"(.+)\[(.+)\]")
_PAGE_NAMES = ("search_results", "item_page", "item_sub_page", "done")
_SUB_PAGES = {name.lower(): name for name in SUB_PAGES}
_RETURNED = 50


def url_of(view: View, session_id: str) -> str:
    """The address that the original gives to a page; it reads the kind of the page back from it."""
    session = view.session
    words = "+".join(session.keywords or ())
    chosen = dict(session.options)
    if view.kind == "search":
        return f"{BASE_URL}/{session_id}"
    if view.kind == "results":
        return f"{BASE_URL}/search_results/{session_id}/{words}/{session.page}"
    if view.kind == "item":
        return f"{BASE_URL}/item_page/{session_id}/{session.asin}/{words}/{session.page}/{json.dumps(chosen)}"
    if view.kind == "sub":
        return f"{BASE_URL}/item_sub_page/{session_id}/{session.asin}/{words}/{session.page}/{view.sub}/{chosen}"
    return f"{BASE_URL}/done/{session_id}/{session.asin}/{chosen}"


class Original(Shop):
    """The shop as the original runs it: search from any page, debug searches, endless result pages, second purchases.

    Where the original raises an exception, the turn carries it as an error: the page stays, what the shop remembers
    has changed as the original changes it.
    """

    original = True
    session_id = "0"
    """The page's address holds it, and the original looks for names of pages and options in the address."""

    def has_next(self, session: Session, total: int) -> bool:
        """Every result page offers the next one."""
        return True

    def rows(self, keywords: Sequence[str]) -> Sequence[int]:
        """Rows of a search; the first word may be a debug command.

        Raises:
            IndexError, TypeError: as the original, for a debug command without its word, and for `<a>`.
        """
        command = keywords[0] if keywords else ""
        if command == "<r>":  # the original draws from the global generator; here it is always the same draw
            total = len(self.catalogue)
            return tuple(random.Random(0).sample(range(total), min(_RETURNED, total)))
        if command == "<a>":
            raise TypeError("'NoneType' object is not subscriptable")
        if command in ("<c>", "<q>"):
            wanted = list(keywords)[1].strip() if command == "<c>" else " ".join(keywords[1:]).strip()
            products = enumerate(self.catalogue.products())
            return tuple(i for i, p in products if (p.category if command == "<c>" else p.query) == wanted)
        return super().rows(keywords)

    def clickables(self, state: State) -> list[str]:
        """What can be clicked now, the search button (which does nothing) included."""
        return pages.clickables(self.nodes(state.view, ""))

    def has_search_box(self, state: State) -> bool:
        """Whether the page shows a search box (the original searches without one, too)."""
        return state.view.kind == "search"

    def act(self, state: State, action: str, goal: Goal) -> Turn:
        """Do an action as the original would."""
        match = _ACTION.match(action)
        if match is None:
            return Turn(state, "no action that the original knows")
        verb, argument = match.group(1), match.group(2).lower()
        try:
            if verb == "search":
                return self._search(state, tuple(argument.split(" ")), 1)
            if verb == "click" and argument != "search" and argument in self.clickables(state):
                return self._receive(state, argument, goal)
        except _Raised as raised:
            return Turn(raised.state, f"the original raises {raised.text}")
        return Turn(state, "the original does nothing here")

    def clicked(self, state: State, nodes: Sequence[pages.Node], session_id: str = "0") -> list[bool]:
        """For each node whether `text_rich` marks it: by the address, as the original decides."""
        url = url_of(state.view, session_id)
        return [
            f'"{text}"' in url if kind == "option" else kind == "link" and text in state.seen for kind, text in nodes
        ]

    def _search(self, state: State, keywords: tuple[str, ...], page: int) -> Turn:
        session = Session(keywords, page)
        try:
            self.rows(keywords)
        except (IndexError, TypeError) as error:
            raise _Raised(replace(state, session=session), error) from None
        return Turn(State(View("results", session), session, state.seen))

    def _page_name(self, state: State) -> str:
        url = url_of(state.view, self.session_id)
        return next((name for name in _PAGE_NAMES if name in url), "")

    def _receive(self, state: State, name: str, goal: Goal) -> Turn:
        session = state.session
        if name == "buy now":
            self._need_item(state, session)
            return self._buy(state, session, goal)
        if name == "back to search":
            return Turn(self.start())
        page_name = self._page_name(state)
        if name == "next >" and page_name == "search_results":
            return self._search(state, session.keywords or (), session.page + 1)
        if name == "< prev" and page_name == "search_results":
            return self._search(state, session.keywords or (), session.page - 1)
        if name == "< prev" and page_name == "item_page":
            return self._search(state, session.keywords or (), session.page)
        if name in _SUB_PAGES:
            self._need_item(state, session)
            return Turn(State(View("sub", session, _SUB_PAGES[name]), session, state.seen))
        return self._item_page(state, session, name)

    def _item_page(self, state: State, session: Session, name: str) -> Turn:
        seen = state.seen
        if state.view.kind == "results" and name not in ("next >", "< prev"):
            session = replace(session, asin=name.upper())
            seen = seen | {name.upper()}
        elif state.view.kind == "item" and name != "< prev":
            owners = [key for key, values in self.item(state.view.session).options.items() if name in values]
            session = replace(session, options=tuple({**dict(session.options), owners[-1].lower(): name}.items()))
        self._need_item(replace(state, session=session, seen=seen), session)
        return self._item(state, session, seen)

    def _need_item(self, state: State, session: Session) -> None:
        try:
            self.item(session)
        except KeyError as error:
            raise _Raised(replace(state, session=session), error) from None


class _Raised(Exception):
    """An exception of the original, with the state it leaves."""

    def __init__(self, state: State, error: Exception) -> None:
        super().__init__(str(error))
        self.state = state
        self.text = f"{type(error).__name__}: {error}"
