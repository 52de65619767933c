"""The shop: what each action does to the state, and what the pages look like.

`Shop` keeps nothing about episodes: every function takes a `State` and returns a new one. The rules here are ours;
`original.Original` overrides the ones in which the original differs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stepagent_envs.webshop import html, pages
from stepagent_envs.webshop.catalogue import Catalogue, Product
from stepagent_envs.webshop.goals import fixed_price
from stepagent_envs.webshop.reward import Goal, Reward, judge
from stepagent_envs.webshop.state import PAGE_SIZE, SUB_PAGES, Session, State, View

__all__ = ["Shop", "Turn", "parse_action"]

_ACTION = re.compile(r"\s*(search|click)\s*\[(.*)\]\s*", re.IGNORECASE)
_SECOND = re.compile(r"\]\s*(?:search|click)\s*\[", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\u2028\u2029]")
_SUB_PAGES = {name.lower(): name for name in SUB_PAGES}


@dataclass(frozen=True, slots=True)
class Turn:
    """What an action led to: the new state, why it was refused (or None), and the reward of a purchase (or None)."""

    state: State
    error: str | None = None
    reward: Reward | None = None


def parse_action(action: str) -> tuple[str, str] | str:
    """Verb ("search" or "click") and argument (lower case, blanks collapsed) of an action, or why it is none."""
    if _CONTROL.search(action):
        return "an action is one line without control characters"
    match = _ACTION.fullmatch(action)
    if match is None:
        return "an action is search[words] or click[what the page shows]"
    if _SECOND.search(match.group(2)):
        return "one action at a time"
    return match.group(1).lower(), " ".join(match.group(2).split()).lower()


class Shop:
    """A shop over a catalogue.

    Args:
        catalogue: what it sells.
        mode: observation mode, one of `pages.MODES`.
        show_attributes: item pages have the button Attributes (the original's `show_attrs`).
        prices: product id -> price that the reward compares with the cap; None takes `fixed_price`.
    """

    original = False

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        mode: str = "text",
        show_attributes: bool = False,
        prices: dict[str, float] | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.mode = mode
        self.show_attributes = show_attributes
        self._prices = prices

    # --- pages -----------------------------------------------------------------------------------------------------

    def start(self) -> State:
        """The state before the first action."""
        return State(View("search", Session()), Session())

    def rows(self, keywords: Sequence[str]) -> Sequence[int]:
        """Rows of the products that a search finds, best first (50 at most)."""
        return self.catalogue.search(" ".join(keywords))

    def has_next(self, session: Session, total: int) -> bool:
        """Whether a result page offers the next one."""
        return session.page * PAGE_SIZE < total

    def shown(self, view: View) -> list[Product]:
        """Products on a result page, in order."""
        return [
            self.catalogue.product(row)
            for row in pages.page_rows(self.rows(view.session.keywords or ()), view.session.page)
        ]

    def item(self, session: Session) -> Product:
        """The product a session looks at."""
        product = self.catalogue.by_asin(session.asin or "")
        if product is None:
            raise KeyError(session.asin)
        return product

    def nodes(self, view: View, instruction: str) -> list[pages.Node]:
        """The nodes of a page."""
        session = view.session
        if view.kind == "search":
            return pages.search_nodes(instruction)
        if view.kind == "results":
            total = len(self.rows(session.keywords or ()))
            products = self.shown(view)
            return pages.result_nodes(instruction, products, session.page, total, self.has_next(session, total))
        if view.kind == "item":
            return pages.item_nodes(instruction, self.item(session), self.show_attributes)
        if view.kind == "sub":
            return pages.sub_nodes(instruction, self.item(session), view.sub)
        return pages.done_nodes(view)

    def observe(self, state: State, goal: Goal, session_id: str = "0") -> str:
        """The page as the agent sees it, in this shop's mode."""
        if self.mode == "html":
            return html.page(self, state.view, goal.instruction, session_id)
        nodes = self.nodes(state.view, goal.instruction)
        if self.mode == "text":
            return pages.plain_text(nodes)
        return pages.rich_text(nodes, self.clicked(state, nodes, session_id))

    def clicked(self, state: State, nodes: Sequence[pages.Node], session_id: str = "0") -> list[bool]:
        """For each node whether it has been clicked."""
        marks = []
        name = ""
        chosen = dict(state.view.session.options)
        names = set(self.item(state.view.session).options) if state.view.kind == "item" else set()
        for kind, text in nodes:
            if kind == "text" and text in names:
                name = text
            marks.append(chosen.get(name) == text if kind == "option" else kind == "link" and text in state.seen)
        return marks

    def clickables(self, state: State) -> list[str]:
        """What can be clicked now, in page order (the search button is no click: it is the action `search[…]`)."""
        found = pages.clickables(self.nodes(state.view, ""))
        return [text for text in found if text] if state.view.kind != "search" else []

    def has_search_box(self, state: State) -> bool:
        """Whether the page shows a search box."""
        return state.view.kind == "search"

    # --- actions ---------------------------------------------------------------------------------------------------

    def act(self, state: State, action: str, goal: Goal) -> Turn:
        """Do an action; a refused one leaves the state as it was."""
        parsed = parse_action(action)
        if isinstance(parsed, str):
            return Turn(state, parsed)
        verb, argument = parsed
        if verb == "search":
            if not self.has_search_box(state):
                return Turn(state, "this page has no search box: click[back to search] leads to it")
            if not argument:
                return Turn(state, "search for something: search[words]")
            return self._results(state, tuple(argument.split(" ")), 1)
        known = {" ".join(text.split()): text for text in reversed(self.clickables(state))}
        if argument not in known:
            what = "use search[words]" if self.has_search_box(state) else "click what the page shows"
            return Turn(state, f"there is no {argument[:80]!r} to click on this page: {what}")
        return self._click(state, known[argument], goal)

    def _results(self, state: State, keywords: tuple[str, ...], page: int) -> Turn:
        session = Session(keywords, page)
        return Turn(State(View("results", session), session, state.seen))

    def _click(self, state: State, name: str, goal: Goal) -> Turn:
        view, session = state.view, state.view.session
        if name == "back to search":
            return Turn(self.start())
        if view.kind == "results":
            if name == "next >":
                return self._results(state, session.keywords or (), session.page + 1)
            if name == "< prev":
                return self._results(state, session.keywords or (), session.page - 1)
            asin = next(product.asin for product in self.shown(view) if product.asin.lower() == name)
            return self._item(state, replace(session, asin=asin, options=()), state.seen | {asin})
        if name == "< prev":
            if view.kind == "item":
                return self._results(state, session.keywords or (), session.page)
            return self._item(state, session, state.seen)
        if name == "buy now":
            return self._buy(state, session, goal)
        if name in _SUB_PAGES:
            return Turn(State(View("sub", session, _SUB_PAGES[name]), session, state.seen))
        return self._item(state, self._choose(session, name), state.seen)

    def _item(self, state: State, session: Session, seen: frozenset[str]) -> Turn:
        return Turn(State(View("item", session), session, seen))

    def _choose(self, session: Session, value: str) -> Session:
        """Choose a value. One that several options offer goes to each that has no choice yet, else to the last."""
        names = [name for name, values in self.item(session).options.items() if value in values]
        chosen = dict(session.options)
        for name in [name for name in names if name not in chosen] or names[-1:]:
            chosen[name] = value
        return replace(session, options=tuple(chosen.items()))

    def price(self, product: Product) -> float:
        """What a product costs, in dollars."""
        return fixed_price(product) if self._prices is None else self._prices[product.asin]

    def _buy(self, state: State, session: Session, goal: Goal) -> Turn:
        product = self.item(session)
        reward = judge(product, goal, self.price(product), dict(session.options), original=self.original)
        return Turn(State(View("done", session, reward=reward.value), session, state.seen), reward=reward)
