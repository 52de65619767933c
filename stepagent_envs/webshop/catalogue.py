"""The product store: what a shop sells, in memory-mapped files that every worker shares.

A store is a folder: `records.bin` holds one JSON record per product, `offsets.npy` where each begins, `asins.npy` and
`asin_rows.npy` find a product by its id, `index/` is the search index, the goal tables are of `goals`, and `store.json`
(written last) says what is inside. Opening reads no product; a product is parsed when it is first looked at.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from stepagent_envs.errors import DataError
from stepagent_envs.webshop.mapping import mapped, mapped_bytes
from stepagent_envs.webshop.nouns import RULE, rule_nouns
from stepagent_envs.webshop.search import SearchIndex, build_index, document_text

__all__ = ["Catalogue", "HumanGoal", "Product", "Review", "StoreInfo", "tagged_hash", "write_store"]

FORMAT = 1
_CACHED = 4096


@dataclass(frozen=True, slots=True)
class Review:
    """A customer's review: title, stars (1 to 5) and text."""

    title: str
    score: int
    body: str


@dataclass(frozen=True, slots=True)
class HumanGoal:
    """An instruction that a person wrote for a product, with the attributes and option values it asks for."""

    instruction: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """A product as the shop shows it and as the reward sees it.

    Attributes:
        asin: its id. title, description, bullets, image, rating, reviews: what the pages print.
        price_tag: the printed price. pricing: its one price or the two ends of its range, in dollars.
        category: the shop's department; query: the kind of product; product_category: the path, parts separated by ›.
        options: option name -> its values, all in lower case. option_images: value -> address of its picture or None.
        attributes: what the product is said to be (hidden from agents unless the Attributes page is switched on).
        instruction, instruction_attributes: the text and the attributes of its synthetic goals; None without goals.
        human: goals that people wrote for it.
        nouns: the nouns of the title in order, lower case, with repeats (see `nouns`).
    """

    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    price_tag: str
    pricing: tuple[float, ...]
    category: str
    query: str
    product_category: str
    options: dict[str, tuple[str, ...]]
    attributes: tuple[str, ...]
    instruction: str | None = None
    instruction_attributes: tuple[str, ...] = ()
    human: tuple[HumanGoal, ...] = ()
    nouns: tuple[str, ...] = ()
    image: str = ""
    option_images: dict[str, str | None] = field(default_factory=dict)
    rating: str = "N.A."
    reviews: tuple[Review, ...] = ()

    def text(self) -> str:
        """What the search engine indexes."""
        return document_text(self.title, self.description, self.bullets, self.options)

    def to_json(self) -> str:
        """The record as JSON: equal products give equal text."""
        values: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS}
        values["options"] = list(self.options.items())  # a JSON object would lose their order when sorted
        values["human"] = [asdict(goal) for goal in self.human]
        values["reviews"] = [asdict(review) for review in self.reviews]
        return json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, record: bytes) -> Product:
        """Inverse of `to_json`."""
        values: dict[str, Any] = json.loads(record)
        for name in _TUPLES:
            values[name] = tuple(values[name])
        values["options"] = {name: tuple(found) for name, found in values["options"]}
        values["human"] = tuple(
            HumanGoal(g["instruction"], tuple(g["attributes"]), tuple(g["options"])) for g in values["human"]
        )
        values["reviews"] = tuple(Review(r["title"], r["score"], r["body"]) for r in values["reviews"])
        return cls(**values)


_TUPLES = ("bullets", "pricing", "attributes", "instruction_attributes", "nouns")
_FIELDS = tuple(f.name for f in fields(Product))


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What a store holds: its name (part of the task ids), content hash, counts, and the maker of its noun table."""

    name: str
    hash: str
    products: int
    synthetic: int
    human: int
    nouns: str
    format: int = FORMAT


def write_store(
    folder: Path, name: str, products: Iterable[Product], nouns: str, goals_per_product: int | None = None
) -> StoreInfo:
    """Write a store into an empty folder.

    Args:
        folder: an existing folder.
        name: name of the data set as task ids show it.
        products: in index order; asins must be unique.
        nouns: which noun tagger made the products' `nouns`.
        goals_per_product: synthetic goals of a product at most; None takes every combination of options.

    Returns:
        What was written.
    """
    from stepagent_envs.webshop.goals import GoalTableWriter

    digest = hashlib.sha256(f"webshop store {FORMAT}, nouns by {RULE}, {goals_per_product} goals\n".encode())
    goals = GoalTableWriter(goals_per_product)
    asins: list[str] = []
    offsets = [0]
    (folder / "index").mkdir()
    with open(folder / "records.bin", "wb") as file:

        def texts() -> Iterator[str]:
            for product in products:
                record = product.to_json().encode()
                digest.update((record if nouns == RULE else _with_rule_nouns(product)) + b"\n")
                file.write(record)
                offsets.append(offsets[-1] + len(record))
                goals.add(len(asins), product)
                asins.append(product.asin)
                yield product.text()

        build_index(texts(), asins, folder / "index")
    np.save(folder / "offsets.npy", np.array(offsets, np.int64))
    encoded = np.array([asin.encode() for asin in asins], "S10")
    rows = np.argsort(encoded, kind="stable").astype(np.int32)
    np.save(folder / "asins.npy", encoded[rows])
    np.save(folder / "asin_rows.npy", rows)
    synthetic, human = goals.write(folder)
    info = StoreInfo(name, tagged_hash(digest.hexdigest(), nouns), len(asins), synthetic, human, nouns)
    (folder / "store.json").write_text(json.dumps(asdict(info), sort_keys=True, indent=1) + "\n", encoding="utf-8")
    return info


def tagged_hash(content: str, nouns: str) -> str:
    """Content hash of a store whose nouns another tagger made, from the hash that it has with the rule's nouns."""
    return content if nouns == RULE else hashlib.sha256(f"{content}, nouns by {nouns}".encode()).hexdigest()


def _with_rule_nouns(product: Product) -> bytes:
    return replace(product, nouns=rule_nouns(product.title)).to_json().encode()


class Catalogue:
    """A product store, opened for reading.

    Args:
        folder: the store's folder.

    Raises:
        DataError: no store, one of another format, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.info = StoreInfo(**json.loads((folder / "store.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{folder}: no product store, or a damaged one ({error}); import the data again") from None
        if self.info.format != FORMAT:
            raise DataError(f"{folder}: written by another version of the package; import the data again")
        self._records = mapped_bytes(folder / "records.bin")
        self._offsets = mapped(folder / "offsets.npy")
        self._asins = mapped(folder / "asins.npy")
        self._rows = mapped(folder / "asin_rows.npy")
        if len(self._offsets) != self.info.products + 1 or int(self._offsets[-1]) != len(self._records):
            raise DataError(f"{folder}: the product file is cut off; import the data again")
        self._index: SearchIndex | None = None
        self._lock = threading.Lock()
        self.product = lru_cache(maxsize=_CACHED)(self._product)
        self.find_rows = lru_cache(maxsize=512)(self._search)

    def __reduce__(self) -> tuple[type[Catalogue], tuple[Path]]:
        """Another process opens the store for itself (a store in memory is shared by the operating system)."""
        return Catalogue, (self.folder,)

    def __len__(self) -> int:
        return self.info.products

    def _product(self, row: int) -> Product:
        if not 0 <= row < self.info.products:
            raise IndexError(row)
        return Product.from_json(self._records[int(self._offsets[row]) : int(self._offsets[row + 1])])

    def row_of(self, asin: str) -> int | None:
        """Row of a product id, or None."""
        try:
            wanted = np.bytes_(asin.encode("ascii"))
        except UnicodeEncodeError:
            return None
        place = int(np.searchsorted(self._asins, wanted))
        if place < len(self._asins) and self._asins[place] == wanted:
            return int(self._rows[place])
        return None

    def by_asin(self, asin: str) -> Product | None:
        """The product of an id, or None."""
        row = self.row_of(asin)
        return None if row is None else self.product(row)

    def _search(self, query: str) -> tuple[int, ...]:
        with self._lock:  # a search works on an array that the next one uses again
            if self._index is None:
                self._index = SearchIndex(self.folder / "index")
            return tuple(row for row, _ in self._index.search(query))

    def search(self, query: str) -> tuple[int, ...]:
        """Rows of the 50 best products for a query, best first."""
        return self.find_rows(query)

    def products(self) -> Iterator[Product]:
        """Every product, in index order."""
        return (self._product(row) for row in range(self.info.products))
