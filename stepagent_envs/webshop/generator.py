"""The built-in shop: believable products, made by seed, the same everywhere.

Products come in families of four that share kind, style and two attributes and differ in brand, further attributes,
options and price: near-duplicates among which an instruction picks one. Product `i` of a seed depends on nothing but
`(seed, i)`, so any number can be made, in any order.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from stepagent_envs.webshop.catalogue import Product, Review
from stepagent_envs.webshop.nouns import rule_nouns
from stepagent_envs.webshop.tables import (
    BRAND_ENDS,
    BRAND_STARTS,
    DESCRIPTIONS,
    FEATURES,
    KINDS,
    OPENERS,
    POOLS,
    REVIEWS,
)

__all__ = ["FAMILY", "GOALS_PER_PRODUCT", "generate", "make_product"]

FAMILY = 4
GOALS_PER_PRODUCT = 3

_MARKS = "+>"
_T = TypeVar("_T")


class _Draw:
    """Draws that depend on the key alone, not on the Python version (`Random.random` is frozen, `choice` is not)."""

    def __init__(self, *key: object) -> None:
        self._next = random.Random(":".join(map(str, key))).random

    def below(self, n: int) -> int:
        return int(self._next() * n)

    def one(self, items: Sequence[_T]) -> _T:
        return items[self.below(len(items))]

    def some(self, items: Sequence[_T], n: int) -> list[_T]:
        """`n` different items, in the order of `items`."""
        left = list(range(len(items)))
        taken = [left.pop(self.below(len(left))) for _ in range(min(n, len(left)))]
        return [items[i] for i in sorted(taken)]


@dataclass(frozen=True, slots=True)
class _Kind:
    query: str
    path: str
    category: str
    names: tuple[str, ...]
    low: float
    high: float
    attributes: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    styles: tuple[str, ...]


_DEPARTMENTS = {
    "Clothing, Shoes & Jewelry": "fashion",
    "Beauty & Personal Care": "beauty",
    "Grocery & Gourmet Food": "grocery",
    "Electronics": "electronics",
    "Cell Phones & Accessories": "electronics",
    "Home & Kitchen": "garden",
}


@lru_cache(maxsize=1)
def _kinds() -> tuple[_Kind, ...]:
    kinds = []
    for line in KINDS:
        query, path, names, low, high, attributes, options, styles = line.split("|")
        pairs = [option.partition("=") for option in options.split(",")]
        kinds.append(
            _Kind(
                query,
                path,
                _DEPARTMENTS[path.split(" › ")[0]],
                tuple(names.split(";")),
                float(low),
                float(high),
                tuple(attributes.split(",")),
                tuple((name, pool) for name, _, pool in pairs),
                tuple(styles.split(";")),
            )
        )
    return tuple(kinds)


def _asin(index: int) -> str:
    """Ten letters, different for every index and without visible order (one word, so that small models can copy it)."""
    number = (index * 3_141_592_653_589 + 2_718_281_828_459) % 26**9
    letters = ""
    for _ in range(9):
        number, digit = divmod(number, 26)
        letters = chr(ord("A") + digit) + letters
    return "B" + letters


def _instruction(query: str, attributes: Sequence[str]) -> str:
    """An instruction in the manner of the published ones."""
    plain = [a for a in attributes if a[0] not in _MARKS]
    with_, for_ = ([a[1:] for a in attributes if a[0] == mark] for mark in _MARKS)
    text = f"Find me {', '.join(plain)} {query}" if plain else f"Find me {query}"
    text += f" with {', '.join(with_)}" if with_ else ""
    return text + (f" for {', '.join(for_)}" if for_ else "")


def _bare(attribute: str) -> str:
    return attribute.lstrip(_MARKS)


def _title(brand: str, style: str, name: str, shown: Sequence[str]) -> str:
    """Brand, style and name with some of the attributes, as sellers string them together."""
    plain = [a.title() for a in shown if a[0] not in _MARKS]
    with_ = [a[1:].title() for a in shown if a[0] == "+"]
    for_ = [a[1:].title() for a in shown if a[0] == ">"]
    title = " ".join([brand, style, *plain[:1], name])
    title += f" with {' and '.join(with_)}" if with_ else ""
    title += f" for {for_[0]}" if for_ else ""
    return title + "".join(f", {more}" for more in plain[1:])


def _feature(attribute: str, draw: _Draw) -> str:
    mark = attribute[0] if attribute[0] in _MARKS else ""
    bare = _bare(attribute)
    return draw.one(FEATURES[mark]).format(a=bare, A=bare.capitalize())


def _price(value: float) -> float:
    """A price as shops write it."""
    return float(max(1, int(value))) - 0.01


def make_product(seed: int, index: int) -> Product:
    """Product `index` of the shop of a seed."""
    family, member = divmod(index, FAMILY)
    shared = _Draw("webshop", seed, "family", family)
    kind = shared.one(_kinds())
    style, name = shared.one(kind.styles), shared.one(kind.names)
    common = shared.some(kind.attributes, 2)
    base_price = kind.low + (kind.high - kind.low) * shared.below(1000) / 1000

    draw = _Draw("webshop", seed, "product", family, member)
    brand = draw.one(BRAND_STARTS) + draw.one(BRAND_ENDS)
    others = [a for a in kind.attributes if a not in common]
    own = draw.some(others, 2 + draw.below(2))
    attributes = [a for a in kind.attributes if a in common or a in own]
    options: dict[str, tuple[str, ...]] = {}
    for option, pool in kind.options:
        if not options or draw.below(10) < 8:
            options[option] = tuple(draw.some(POOLS[pool], 3 + draw.below(3)))
    low = _price(base_price * (0.7 + draw.below(60) / 100))
    pricing = (low, _price(low * (1.2 + draw.below(30) / 100) + 1)) if draw.below(10) < 2 else (low,)
    asked = draw.some(attributes, 2 + (draw.below(10) < 4))
    if not any(a in own for a in asked):
        asked = [a for a in attributes if a == own[0] or a in asked[:2]]
    shown = [a for a in attributes if draw.below(100) < (85 if a in asked else 35)]
    sentences = [_feature(a, draw) for a in attributes]
    main = _bare(next((a for a in attributes if a[0] not in _MARKS), attributes[0]))
    about = draw.one(DESCRIPTIONS).format(
        brand=brand, name=name, style=style.lower(), query=kind.query, A=main.capitalize()
    )
    return Product(
        asin=_asin(index),
        title=_title(brand, style, name, shown),
        description=about,
        bullets=(draw.one(OPENERS).format(style=style.lower()), *sentences),
        price_tag=" to ".join(f"${price}" for price in pricing),
        pricing=pricing,
        category=kind.category,
        query=kind.query,
        product_category=kind.path,
        options=options,
        attributes=tuple(_bare(a) for a in attributes),
        instruction=_instruction(kind.query, asked),
        instruction_attributes=tuple(_bare(a) for a in asked),
        rating=f"{3 + draw.below(21) / 10:.1f}",
        reviews=tuple(Review(*review) for review in draw.some(REVIEWS, draw.below(4))),
    )


def generate(count: int, seed: int = 0) -> Iterator[Product]:
    """The first `count` products of the shop of a seed, with the nouns of their titles."""
    from dataclasses import replace

    for index in range(count):
        product = make_product(seed, index)
        yield replace(product, nouns=rule_nouns(product.title))
