"""Goals: what the shop's customers ask for, in frozen order, with prices, caps and splits fixed once and for all.

Synthetic goals are a product's instruction with every combination of its options, shuffled by the original's seed 233;
goals that people wrote follow the same rule. The original draws prices of ranges and price caps from the unseeded
global generator; here each is drawn from a hash of the product or goal itself, so it never changes.
"""

from __future__ import annotations

import array
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stepagent_envs.webshop.catalogue import Product
from stepagent_envs.webshop.mapping import mapped
from stepagent_envs.webshop.reward import NO_CAP, Goal

__all__ = ["GoalTable", "GoalTableWriter", "fixed_price", "goal_of", "human_goal_of", "price_cap", "unit_hash"]

SHUFFLE_SEED = 233
SPLITS = ("train", "dev", "test")
_TEST_SHARE, _DEV_SHARE = 0.15, 0.10
NO_PRICE = 100.0
"""What a product without a price costs, as in the original."""


def unit_hash(*parts: object) -> float:
    """A number in [0, 1) from a hash of the parts: equal everywhere, for ever."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def fixed_price(product: Product) -> float:
    """What a product costs, in dollars: its price, or a point of its price range that its asin decides."""
    if not product.pricing:
        return NO_PRICE
    if len(product.pricing) == 1:
        return product.pricing[0]
    low, high = product.pricing[:2]
    return round(low + (high - low) * unit_hash("price", product.asin), 2)


def price_cap(price: float, *key: object) -> float:
    """The price cap of a goal, in dollars: the larger of two of the next four multiples of 10 above the price.

    Args:
        price: of the goal's product. key: what decides the draw.

    Returns:
        The cap, or `NO_CAP` for products so dear (980 dollars and more) that fewer than two multiples up to 990 remain.
    """
    first = int(price // 10) + 1
    steps = [10.0 * i for i in range(first, min(first + 4, 100))]
    pairs = [upper for i, upper in enumerate(steps) for _ in range(i)]
    return pairs[int(unit_hash("cap", *key) * len(pairs))] if pairs else NO_CAP


def _cap_text(cap: float) -> str:
    return f", and price lower than {cap:.2f} dollars" if cap < NO_CAP else ""


def combinations(product: Product) -> int:
    """Number of ways to choose one value for each option (1 for a product without options)."""
    total = 1
    for values in product.options.values():
        total *= len(values)
    return total


def _combination(product: Product, number: int) -> tuple[tuple[str, str], ...]:
    """Combination `number` of the options in alphabetical order, the last option changing fastest."""
    chosen = []
    for name in sorted(product.options, reverse=True):
        values = product.options[name]
        number, place = divmod(number, len(values))
        chosen.append((name, values[place]))
    return tuple(reversed(chosen))


def goal_of(product: Product, number: int, cap: float | None = None) -> Goal:
    """A product's synthetic goal for one combination of its options; the cap is drawn by hash unless given."""
    options = _combination(product, number)
    listed = ", and ".join(f"{name}: {value}" for name, value in options)
    text = f"{product.instruction}{' with ' + listed if listed else ''}"
    if cap is None:
        cap = price_cap(fixed_price(product), product.asin, text)
    return _goal(product, text + _cap_text(cap), product.instruction_attributes, options, cap)


def human_goal_of(product: Product, number: int, cap: float | None = None) -> Goal:
    """Goal `number` of those that people wrote for a product."""
    written = product.human[number]
    text = written.instruction.strip(".")
    if cap is None:
        cap = price_cap(fixed_price(product), product.asin, text)
    options = tuple(("", value) for value in written.options)
    return _goal(product, text + _cap_text(cap), written.attributes, options, cap)


def _goal(
    product: Product, text: str, attributes: tuple[str, ...], options: tuple[tuple[str, str], ...], cap: float
) -> Goal:
    return Goal(
        text, product.asin, product.title, product.query, product.product_category, attributes, options, cap,
        product.nouns,
    )  # fmt: skip


def _split_of(group: str) -> int:
    """Number of the split of a group of goals that must not be torn apart."""
    place = unit_hash("split", group)
    return 2 if place < _TEST_SHARE else 1 if place < _TEST_SHARE + _DEV_SHARE else 0


class GoalTableWriter:
    """Collects the goals of products and writes the tables: (product row, number within the product), in goal order.

    Products whose instructions read the same are one group and stay in one split, so that splits share neither a
    product nor a text.

    Args:
        per_product: synthetic goals of a product at most (drawn by hash); None takes every combination.
    """

    def __init__(self, per_product: int | None = None) -> None:
        self._per_product = per_product
        self._tables = {"goals": array.array("i"), "human": array.array("i")}
        self._groups: dict[str, array.array[int]] = {"goals": array.array("b"), "human": array.array("b")}
        self._human_texts: dict[str, int] = {}

    def add(self, row: int, product: Product) -> None:
        """Add a product's goals."""
        split = _split_of(product.instruction or product.asin)
        if product.instruction is not None:
            for number in self._numbers(product):
                self._tables["goals"].extend((row, number))
                self._groups["goals"].append(split)
        for number, goal in enumerate(product.human):
            if goal.attributes:
                # The same words may have been written for products of two splits: the later one is in neither.
                own = self._human_texts.setdefault(goal.instruction.strip(".").lower(), split)
                self._tables["human"].extend((row, number))
                self._groups["human"].append(split if own == split else _NO_SPLIT)

    def _numbers(self, product: Product) -> list[int] | range:
        total = combinations(product)
        if self._per_product is None or total <= self._per_product:
            return range(total)
        drawn = (int(unit_hash("goal", product.asin, i) * total) for i in range(4 * self._per_product))
        return sorted(list(dict.fromkeys(drawn))[: self._per_product])

    def write(self, folder: Path) -> tuple[int, int]:
        """Write the tables; returns the numbers of synthetic and of human goals."""
        sizes = []
        for name, flat in self._tables.items():
            table = np.frombuffer(flat, np.int32).reshape(-1, 2) if flat else np.empty((0, 2), np.int32)
            split = np.frombuffer(self._groups[name], np.int8) if flat else np.empty(0, np.int8)
            order = list(range(len(table)))
            random.Random(SHUFFLE_SEED).shuffle(order)
            np.save(folder / f"{name}.npy", table[order])
            np.save(folder / f"{name}_splits.npy", split[order])
            sizes.append(len(table))
        return sizes[0], sizes[1]


_NO_SPLIT = 3
"""Marks a human goal whose text already belongs to another split: it is in `human` and `all` only."""


class GoalTable:
    """The goals of a store, by index, and which split each belongs to.

    Args:
        folder: the store's folder. name: `goals` (synthetic) or `human`.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._table = mapped(folder / f"{name}.npy")
        self._splits = mapped(folder / f"{name}_splits.npy")

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> tuple[int, int]:
        """Product row, and the goal's number within the product."""
        row, number = self._table[index]
        return int(row), int(number)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return (self[i] for i in range(len(self)))

    def split(self, index: int) -> str:
        """Name of the split of a goal."""
        number = int(self._splits[index])
        return SPLITS[number] if number < len(SPLITS) else "none"

    def indices(self, split: str) -> npt.NDArray[Any]:
        """Indices of the goals of a split, ascending."""
        return np.flatnonzero(np.asarray(self._splits) == SPLITS.index(split))
