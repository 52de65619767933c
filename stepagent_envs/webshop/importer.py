"""Imports the published files: items, attributes, and instructions that people wrote.

Takes the folder of the official download (`items_shuffle*.json`, `items_ins_v2*.json`, optionally
`items_human_ins*.json`, `eto_train_indices.json`, `eto_test_indices.json`). The cleaning rules are the original's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stepagent_envs.data import Download, dump_json
from stepagent_envs.errors import DataError
from stepagent_envs.webshop.catalogue import HumanGoal, Product, tagged_hash, write_store
from stepagent_envs.webshop.nouns import tagger

__all__ = ["DOWNLOADS", "ETO_FILES", "build", "read_products"]

_DRIVE = "https://drive.google.com/uc?export=download&id="
DOWNLOADS = (
    Download(_DRIVE + "1EgHdxQ_YxqIQlvvq5iKlCrkEKR6-j0Ib", "items_shuffle_1000.json", "1,000 products, about 4.5 MB"),
    Download(_DRIVE + "1IduG0xl544V_A_jv3tHXC0kyFi7PnyBu", "items_ins_v2_1000.json", "their attributes, about 147 KB"),
    Download(_DRIVE + "14Kb5SPBk_jfdLZ_CDBNitW98QLDlKR5O", "items_human_ins.json", "human goals, about 4.9 MB"),
)
"""The 1,000-product set that most work uses. The full set lies in the same place: items_shuffle.json (5.1 GB) and
items_ins_v2.json (178 MB), ids 1A2whVgOO0euk5O13n2iYDM0bQRkkRduB and 1s2j6NgHljiZzQNL3veZaAiyW_qDEgBNi."""

_OFFICIAL_WITH_RULE = "93cac97c78d0da08550884b4eb6e0e92d4ad2d6511de9dddb58a3a013cfeac94"
"""Content hash of the 1,000-product set with its human goals, nouns by the rule."""


def __getattr__(name: str) -> str:
    """`OFFICIAL_HASH`: what that set's hash is with the noun tagger at hand."""
    if name == "OFFICIAL_HASH":
        return tagged_hash(_OFFICIAL_WITH_RULE, tagger()[0])
    raise AttributeError(name)


ETO_FILES = ("eto_train_indices.json", "eto_test_indices.json")
"""Lists of human goals that a line of papers trains and tests on; kept with the data when they lie beside it."""

_NOT_PRICE = re.compile(r"[^\d.]")


def _load(path: Path, kind: type) -> Any:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: no complete JSON ({error}); the file is cut off or damaged, get it again") from None
    if not isinstance(value, kind):
        raise DataError(f"{path}: expected a JSON {'list' if kind is list else 'object'}; this is another file")
    return value


def _one(source: Path, pattern: str, what: str) -> Path:
    found = sorted(source.glob(pattern))
    if not found:
        raise DataError(f"{source}: no {pattern} in this folder; give the folder that holds WebShop's {what}")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{source}: several files of {what} ({names}); leave the one to import")
    return found[0]


def _prices(text: str | None) -> tuple[tuple[float, ...], str]:
    """Prices in dollars (none, one, or both ends of a range) and how they are printed."""
    if not text:
        return (100.0,), "$100.0"
    prices = tuple(float(_NOT_PRICE.sub("", part)) for part in text.split("$")[1:])
    if len(prices) == 1:
        return prices, f"${prices[0]}"
    return prices[:2], f"${prices[0]} to ${prices[1]}"


def _options(item: dict[str, Any]) -> tuple[dict[str, tuple[str, ...]], dict[str, str | None]]:
    options: dict[str, tuple[str, ...]] = {}
    images: dict[str, str | None] = {}
    for name, contents in (item.get("customization_options") or {}).items():
        if contents is None:
            continue
        values = []
        for content in contents:
            value = content["value"].strip().replace("/", " | ").lower()
            values.append(value)
            images[value] = content.get("image")
        options[name.lower()] = tuple(values)
    return options, images


def _product(item: dict[str, Any], attributes: dict[str, Any], human: dict[str, Any]) -> Product:
    asin = item["asin"]
    about = attributes.get(asin, {})
    wanted = tuple(about.get("instruction_attributes") or ())
    bullets = item["small_description"]
    pricing, price_tag = _prices(item.get("pricing"))
    options, images = _options(item)
    return Product(
        asin=asin,
        title=item["name"],
        description=item["full_description"],
        bullets=tuple(bullets) if isinstance(bullets, list) else (bullets,),
        price_tag=price_tag,
        pricing=pricing,
        category=item["category"],
        query=item["query"].lower().strip(),
        product_category=item["product_category"],
        options=options,
        attributes=tuple(about.get("attributes", ("DUMMY_ATTR",))),
        instruction=about.get("instruction") if wanted else None,
        instruction_attributes=wanted,
        human=tuple(
            HumanGoal(goal["instruction"], tuple(goal["instruction_attributes"]), tuple(goal["instruction_options"]))
            for goal in human.get(asin, ())
        ),
        image=(item.get("images") or [""])[0] or "",
        option_images=images,
    )


def read_products(source: Path) -> Iterator[Product]:
    """Products of the published files in a folder, cleaned, in order; their nouns are still missing."""
    items_path = _one(source, "items_shuffle*.json", "items")
    attributes_path = _one(source, "items_ins_v2*.json", "attributes")
    human_paths = sorted(source.glob("items_human_ins*.json"))
    attributes = _load(attributes_path, dict)
    human: dict[str, Any] = {}
    for path in human_paths:
        human.update(_load(path, dict))
    seen = set()
    for number, item in enumerate(_load(items_path, list)):
        try:
            asin = item["asin"]
            if asin == "nan" or len(asin) > 10 or asin in seen:
                continue
            seen.add(asin)
            yield _product(item, attributes, human)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(
                f"{items_path}: product {number} is not of the published format ({type(error).__name__}: {error}); "
                f"get the file again"
            ) from None


def _with_nouns(products: list[Product], nouns: Iterator[tuple[str, ...]]) -> Iterator[Product]:
    from dataclasses import replace

    for product, found in zip(products, nouns, strict=True):
        yield replace(product, nouns=found)


def _size_name(count: int) -> str:
    """1000 -> "1k", 1181436 -> "1.18m", 999 -> "999"."""
    for unit, letter in ((10**6, "m"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.2f}".rstrip("0").rstrip(".") + letter
    return str(count)


def build(source: Path, target: Path) -> tuple[dict[str, int], str]:
    """Read the published files of a folder and write a store into `target`; returns counts and content hash.

    Raises:
        DataError: a file is missing, cut off or of another format; says which and what to do.
    """
    source = source if source.is_dir() else source.parent
    products = list(read_products(source))
    if not products:
        raise DataError(f"{source}: the items file holds no product; get it again")
    name, tag = tagger()
    nouns = tag(product.title for product in products)
    info = write_store(target, f"official-{_size_name(len(products))}", _with_nouns(products, nouns), name)
    for file in ETO_FILES:
        if (source / file).is_file():
            dump_json(target / file, _load(source / file, list))
    counts = {"products": info.products, "synthetic_goals": info.synthetic, "human_goals": info.human}
    return counts, info.hash
