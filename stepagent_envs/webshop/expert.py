"""The experts: `shopper`, who acts on what it has seen, and `oracle`, who knows the goal's product."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stepagent_envs.webshop.analysis import analyse
from stepagent_envs.webshop.catalogue import Product
from stepagent_envs.webshop.engine import Shop
from stepagent_envs.webshop.pages import page_rows
from stepagent_envs.webshop.reward import Goal
from stepagent_envs.webshop.state import PAGE_SIZE, Session, State, View
from stepagent_envs.webshop.wishes import Wish, read_wish, suggested_queries

__all__ = ["Memory", "oracle_action", "shopper_action"]

BUY = "click[buy now]"
BACK = "click[back to search]"
PREVIOUS = "click[< prev]"
NEXT = "click[next >]"
_AMOUNT = re.compile(r"\d+(?:\.\d+)?")
_PAGES_READ = 3
"""Result pages of a search that the shopper reads at most."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Which pages have been seen: result pages as (words, page), and products' pages as (asin, sub-page or "")."""

    results: tuple[tuple[tuple[str, ...], int], ...] = ()
    pages: frozenset[tuple[str, str]] = frozenset()

    def after(self, view: View) -> Memory:
        """The memory after a page was shown."""
        session = view.session
        if view.kind == "results":
            page = (session.keywords or (), session.page)
            return self if page in self.results else replace(self, results=(*self.results, page))
        if view.kind in ("item", "sub") and session.asin is not None:
            seen = (session.asin, view.sub)
            return self if seen in self.pages else replace(self, pages=self.pages | {seen})
        return self


def _click(text: str) -> str:
    return f"click[{text.lower()}]"


# --- the oracle ----------------------------------------------------------------------------------------------------


def oracle_action(shop: Shop, state: State, goal: Goal) -> str:
    """The next action on the shortest way to buying the goal's own product with the options asked for."""
    view = state.view
    session = view.session
    product = shop.catalogue.by_asin(goal.asin)
    assert product is not None
    if session.asin == goal.asin and view.kind in ("item", "sub"):
        wanted = _wanted(product, goal)
        missing = [value for name, value in wanted if dict(session.options).get(name) != value]
        if view.kind == "sub":
            return PREVIOUS
        return _click(missing[0]) if missing else BUY
    if view.kind == "results":
        found = list(shop.rows(session.keywords or ()))
        row = shop.catalogue.row_of(goal.asin)
        if row is not None and row in found:
            page = found.index(row) // PAGE_SIZE + 1
            return _click(goal.asin) if page == session.page else NEXT if page > session.page else PREVIOUS
        return BACK
    if view.kind == "search":
        return f"search[{_best_query(shop, product, goal)}]"
    rows = shop.rows(session.keywords or ())
    near = shop.catalogue.row_of(goal.asin) in page_rows(rows, session.page)
    return PREVIOUS if near and view.kind == "item" else BACK


def _wanted(product: Product, goal: Goal) -> list[tuple[str, str]]:
    """The goal's options under the names that the product gives them (people's goals have values only)."""
    wanted = []
    for name, value in goal.options:
        names = [name] if name else [own for own, values in product.options.items() if value in values]
        wanted += [(own, value) for own in names[:1] if value in product.options.get(own, ())]
    return wanted


def _best_query(shop: Shop, product: Product, goal: Goal) -> str:
    row = shop.catalogue.row_of(product.asin)
    title = " ".join(re.sub(r"[\[\]\x00-\x1f\x7f]", " ", product.title).lower().split())[:1000]
    asked = suggested_queries(goal.instruction)
    for query in (*asked[:1], title):
        if row in shop.rows(tuple(query.split(" ")))[:PAGE_SIZE]:
            return query
    return title or asked[0]


# --- the shopper ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A product as far as it has been seen, and how well it fits the wish.

    Attributes:
        place: position in the order of being seen. opened: its page was seen.
        options: share of the options asked for that it offers (only known when opened).
        attributes: share of the properties asked for that its seen texts mention.
        kind: share of the words for the kind of product that they mention.
        cheap: its price can be under the cap. fits_budget: it is the kind of price for which the cap was set.
        sure: everything asked for was seen to hold. hopeless: an option is missing or the price is too high.
        next_sub: the sub-page that may still tell more, or None (descriptions repeat what the features say).
    """

    product: Product
    place: int
    opened: bool
    options: float
    attributes: float
    kind: float
    cheap: bool
    fits_budget: bool
    next_sub: str | None

    @property
    def sure(self) -> bool:
        return self.opened and self.options == 1 and self.attributes == 1 and self.cheap

    @property
    def hopeless(self) -> bool:
        return not self.cheap or (self.opened and self.options < 1)

    @property
    def promise(self) -> float:
        """How likely it is the right one, to order what to open (weights of a logistic fit on train goals)."""
        return 2.2 * self.attributes + 1.9 * self.kind + 4.5 * self.fits_budget - (not self.cheap) - 0.37 * self.place

    @property
    def worth(self) -> float:
        """Expected reward of buying it, to choose among what has been opened."""
        return 2.0 * self.options + 2.0 * self.attributes + 0.5 * self.cheap + 0.3 * self.kind - 0.01 * self.place


def shopper_action(shop: Shop, state: State, instruction: str, memory: Memory, steps_left: int) -> str:
    """What a customer would do who has seen the pages in `memory` and knows nothing else.

    Args:
        shop: to read again what was on the pages seen. state: where the customer is. instruction: what to buy.
        memory: pages seen so far, the present one included. steps_left: actions left, the next one included.
    """
    wish = read_wish(instruction)
    queries = [tuple(query.split(" ")) for query in suggested_queries(instruction)]
    found = {c.product.asin: c for c in _candidates(shop, wish, memory)}
    view = state.view
    here = found.get(view.session.asin or "") if view.kind in ("item", "sub") else None
    best = max((c for c in found.values() if c.opened), key=lambda c: c.worth, default=None)
    sure = [c for c in found.values() if c.sure]
    if sure:
        best = here if here in sure else min(sure, key=lambda c: c.place)
        return _buy(shop, state, wish, best, memory)
    if best is not None and steps_left <= _cost(shop, state, wish, best) + 2:
        return _buy(shop, state, wish, best, memory)
    if here is not None and not here.hopeless and here.next_sub is not None:
        return PREVIOUS if view.kind == "sub" else _click(here.next_sub)
    fresh = [c for c in found.values() if not c.opened and not c.hopeless]
    goal = max(fresh, key=lambda c: c.promise, default=None)
    more = _next_page(shop, memory, queries)
    if goal is not None and (more is None or goal.promise > _ENOUGH or more[0] != queries[0] or steps_left < _HASTE):
        return _go(shop, state, goal.product.asin, memory)
    if more is not None:
        return _go_to_page(shop, state, *more)
    if goal is not None:
        return _go(shop, state, goal.product.asin, memory)
    if best is None:
        return _last_resort(shop, state, found, queries)
    return _buy(shop, state, wish, best, memory)


_HASTE = 7
"""Actions left below which no further result page is read."""

_ENOUGH = 1.5
"""Promise above which a product is opened before another result page is read."""


def _last_resort(shop: Shop, state: State, found: dict[str, _Candidate], queries: Sequence[tuple[str, ...]]) -> str:
    """Nothing seen fits: open whatever is shown, else search for the fullest query."""
    if state.view.kind == "results" and found:
        shown = shop.shown(state.view)
        if shown:
            return _click(shown[0].asin)
    return BACK if state.view.kind != "search" else f"search[{' '.join(queries[0])}]"


def _candidates(shop: Shop, wish: Wish, memory: Memory) -> Iterator[_Candidate]:
    """Every product seen so far, in the order of being seen."""
    seen: dict[str, Product] = {}
    for keywords, page in memory.results:
        for product in (shop.catalogue.product(row) for row in page_rows(shop.rows(keywords), page)):
            seen.setdefault(product.asin, product)
    for asin, _ in sorted(memory.pages):
        product_seen = shop.catalogue.by_asin(asin)
        if product_seen is not None:
            seen.setdefault(asin, product_seen)
    for place, product in enumerate(seen.values()):
        yield _judge(product, place, wish, {sub for asin, sub in memory.pages if asin == product.asin})


def _judge(product: Product, place: int, wish: Wish, subs: set[str]) -> _Candidate:
    opened = bool(subs)
    texts = [product.title]
    if opened:
        texts += [f"{name} {' '.join(values)}" for name, values in product.options.items()]
    if "Features" in subs:
        texts += product.bullets
    if "Description" in subs:
        texts.append(product.description)
    if "Attributes" in subs:
        texts += product.attributes
    terms = frozenset(term for text in texts for term in analyse(text))
    met = sum(attribute <= terms for attribute in wish.attributes)
    attributes = met / len(wish.attributes) if wish.attributes else 1.0
    low, high = _price_range(product.price_tag)
    return _Candidate(
        product,
        place,
        opened,
        _offered(product, wish) if opened else 0.0,
        attributes,
        len(wish.kind & terms) / len(wish.kind) if wish.kind else 1.0,
        low <= wish.cap,
        low < wish.cap <= high + 40,
        "Features" if opened and "Features" not in subs and attributes < 1 else None,
    )


def _price_range(price_tag: str) -> tuple[float, float]:
    amounts = [float(amount) for amount in _AMOUNT.findall(price_tag)]
    return (min(amounts), max(amounts)) if amounts else (0.0, 0.0)


def _offered(product: Product, wish: Wish) -> float:
    if not wish.options:
        return 1.0
    return sum(value in product.options.get(name, ()) for name, value in wish.options) / len(wish.options)


def _chosen(product: Product, wish: Wish) -> list[tuple[str, str]]:
    """Options to choose: those listed, or, when none are listed, the values nearest to the words."""
    if wish.options:
        return [(name, value) for name, value in wish.options if value in product.options.get(name, ())]
    picked = []
    for name, values in product.options.items():
        nearness, _, value = max(((_nearness(value, wish), -len(value), value) for value in values), default=(0, 0, ""))
        if value and (nearness > 0 or len(values) == 1):
            picked.append((name, value))
    return picked


def _nearness(value: str, wish: Wish) -> float:
    """How much of an option value the words of a wish name: "120ml" is in "120 ml", and "black1901" holds "black"."""
    terms = analyse(value)
    named = sum(term in wish.terms or _UNITS.get(term) in wish.terms for term in terms)
    squeezed = value.replace(" ", "")
    inside = sum(term in squeezed for term in wish.terms if len(term) > 3)
    whole = squeezed in wish.squeezed
    return (named + 0.5 * inside + 2 * whole) / (1 + 0.1 * len(terms))


_UNITS = {"ounc": "oz", "oz": "ounc", "inch": "in", "feet": "ft", "pound": "lb", "lb": "pound", "count": "ct"}


def _buy(shop: Shop, state: State, wish: Wish, candidate: _Candidate, memory: Memory) -> str:
    """The next action on the way to buying a product that was opened before."""
    session = state.view.session
    if state.view.kind == "item" and session.asin == candidate.product.asin:
        chosen = dict(session.options)
        missing = [value for name, value in _chosen(candidate.product, wish) if chosen.get(name) != value]
        return _click(missing[0]) if missing else BUY
    return _go(shop, state, candidate.product.asin, memory)


def _cost(shop: Shop, state: State, wish: Wish, candidate: _Candidate) -> int:
    """Actions that buying an opened product takes from here, at least."""
    session = state.view.session
    wanted = _chosen(candidate.product, wish)
    if session.asin == candidate.product.asin and state.view.kind in ("item", "sub"):
        chosen = dict(session.options)
        return (state.view.kind == "sub") + sum(chosen.get(name) != value for name, value in wanted) + 1
    return {"results": 1, "item": 2, "sub": 3}.get(state.view.kind, 3) + len(wanted) + 1


def _go(shop: Shop, state: State, asin: str, memory: Memory) -> str:
    """The next action towards a product that was seen on some result page."""
    view, session = state.view, state.view.session
    if view.kind == "sub" and session.asin == asin:
        return PREVIOUS
    row = shop.catalogue.row_of(asin)
    if view.kind != "search" and row in page_rows(shop.rows(session.keywords or ()), session.page):
        return _click(asin) if view.kind == "results" else PREVIOUS
    for keywords, page in memory.results:
        if row in page_rows(shop.rows(keywords), page):
            return _go_to_page(shop, state, keywords, page)
    return BACK


def _go_to_page(shop: Shop, state: State, keywords: tuple[str, ...], page: int) -> str:
    """The next action towards a result page."""
    view, session = state.view, state.view.session
    if view.kind == "search":
        return f"search[{' '.join(keywords)}]"
    if session.keywords != keywords:
        return BACK
    if view.kind != "results":
        return PREVIOUS
    return NEXT if session.page < page else PREVIOUS


def _next_page(shop: Shop, memory: Memory, queries: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], int] | None:
    """The result page to read next: up to three of the fullest search, then of the others; None when all are read."""
    for keywords in queries:
        pages = [page for words, page in memory.results if words == keywords]
        if not pages:
            return keywords, 1
        last = max(pages)
        if last < _PAGES_READ and shop.has_next(Session(keywords, last), len(shop.rows(keywords))):
            return keywords, last + 1
    return None
