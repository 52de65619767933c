"""The reward of a purchase: the original's formula, with its parts.

reward = r_type × (matched attributes + matched options + price within the cap) / (attributes + options + 1)

By default options match as options: the value chosen under that name is the value asked for. `original=True` compares
as the original does: the bought value with its first colour word in place of the whole, against the text of the goal's
(name, value) pair, by token-set ratio above 85 – which takes `large` for `x-large` and finds some goals unreachable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepagent_envs.webshop.catalogue import Product
from stepagent_envs.webshop.fuzzy import token_set_ratio

__all__ = ["Goal", "NO_CAP", "Reward", "judge", "normalise_colour"]

NO_CAP = 1_000_000.0
"""The price cap of goals that name none."""

_MATCH = 85

_COLOURS = [
    "alabaster",
    "apricot",
    "aqua",
    "ash",
    "asphalt",
    "azure",
    "banana",
    "beige",
    "black",
    "blue",
    "blush",
    "bordeaux",
    "bronze",
    "brown",
    "burgundy",
    "camel",
    "camo",
    "caramel",
    "champagne",
    "charcoal",
    "cheetah",
    "chestnut",
    "chocolate",
    "christmas",
    "coffee",
    "cognac",
    "copper",
    "coral",
    "cranberry",
    "cream",
    "crystal",
    "dark",
    "denim",
    "eggplant",
    "elephant",
    "espresso",
    "fuchsia",
    "gold",
    "granite",
    "grape",
    "graphite",
    "grass",
    "gray",
    "green",
    "grey",
    "heather",
    "indigo",
    "ivory",
    "ivy",
    "khaki",
    "lavender",
    "lemon",
    "leopard",
    "light",
    "lilac",
    "lime",
    "magenta",
    "maroon",
    "mauve",
    "merlot",
    "midnight",
    "mint",
    "mocha",
    "multicolor",
    "mushroom",
    "mustard",
    "natural",
    "navy",
    "nude",
    "olive",
    "orange",
    "peach",
    "pewter",
    "pink",
    "plum",
    "purple",
    "rainbow",
    "red",
    "rose",
    "royal",
    "rust",
    "sand",
    "sapphire",
    "seashell",
    "silver",
    "skull",
    "slate",
    "steel",
    "stone",
    "stonewash",
    "sunflower",
    "tan",
    "taupe",
    "teal",
    "tiger",
    "turquoise",
    "violet",
    "walnut",
    "wheat",
    "white",
    "wine",
    "yellow",
]
"""The colour words that the original looks for, in its order."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What an instruction asks for.

    Attributes:
        instruction: the text shown to the agent.
        asin, title, query, product_category, nouns: of the product that the goal was made from.
        attributes: attributes asked for.
        options: (name, value) pairs asked for; a goal that a person wrote has values only, their names are "".
        price_upper: the cap in dollars, `NO_CAP` when there is none.
    """

    instruction: str
    asin: str
    title: str
    query: str
    product_category: str
    attributes: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    price_upper: float
    nouns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward in [0, 1] and its parts, named as the original names them."""

    value: float
    parts: dict[str, Any]


def normalise_colour(text: str) -> str:
    """The first colour word (in the list's order) that a text contains, or the text itself."""
    return next((colour for colour in _COLOURS if colour in text), text)


def _type_part(product: Product, goal: Goal, original: bool) -> dict[str, Any]:
    """r_type with what decides it: same kind of product, two shared category levels, shared title nouns."""
    query_match = product.query == goal.query
    path, wanted = ({part.strip() for part in p.split("›")} for p in (product.product_category, goal.product_category))
    category_match = len(path & wanted) >= 2
    shared = len(set(product.nouns) & set(goal.nouns))
    asked = len(goal.nouns) if original else len(set(goal.nouns))
    title_score = shared / asked if asked else 0.2
    r_type = 1.0 if query_match or category_match or title_score > 0.2 else 0.5
    if title_score < 0.1:
        r_type = 0.1
    if title_score == 0.0:
        r_type = 0.0
    return {
        "r_type": r_type, "query_match": query_match, "category_match": category_match, "title_score": title_score
    }  # fmt: skip


def _matched_attributes(product: Product, goal: Goal) -> int:
    """Attributes asked for that the product has, by its list or anywhere in its texts."""
    texts = (product.title.lower(), " ".join(product.bullets).lower(), product.description.lower())
    return sum(
        any(token_set_ratio(own, wanted) > _MATCH for own in product.attributes)
        or any(wanted in text for text in texts)
        for wanted in goal.attributes
    )


def _matched_options(goal: Goal, chosen: Mapping[str, str]) -> int:
    """Options asked for that were chosen: the very value, under its name where the goal knows the name."""
    values = set(chosen.values())
    return sum(chosen.get(name) == value if name else value in values for name, value in goal.options)


def _matched_options_original(goal: Goal, chosen: Mapping[str, str]) -> int:
    bought = [normalise_colour(value) for value in chosen.values()]
    # A goal's pair is normalised as a tuple would be: only a member that is itself a colour word replaces the pair.
    wanted = [
        next((colour for colour in _COLOURS if colour in pair), str(pair)) if pair[0] else normalise_colour(pair[1])
        for pair in goal.options
    ]
    return sum(any(token_set_ratio(value, text) > _MATCH for value in bought) for text in wanted)


def judge(product: Product, goal: Goal, price: float, chosen: Mapping[str, str], *, original: bool = False) -> Reward:
    """The reward of buying a product.

    Args:
        product: what is bought. goal: what was asked for. price: what it costs, in dollars.
        chosen: option name -> chosen value, in the order of choosing.
        original: compare options and titles exactly as the original does.

    Returns:
        The reward; `parts` holds r_type, r_att, r_option, r_price, their weights and what decided r_type.
    """
    kind = _type_part(product, goal, original)
    attributes = _matched_attributes(product, goal)
    options = (_matched_options_original if original else _matched_options)(goal, chosen)
    r_price = price <= goal.price_upper
    total = len(goal.attributes) + len(goal.options) + 1
    parts: dict[str, Any] = {
        "r_type": kind["r_type"],
        "r_att": _share(attributes, goal.attributes),
        "w_att": len(goal.attributes) / total,
        "query_match": kind["query_match"],
        "category_match": kind["category_match"],
        "title_score": kind["title_score"],
    }
    if goal.options:
        parts["r_option"] = _share(options, goal.options)
        parts["w_option"] = len(goal.options) / total
    parts["r_price"] = r_price
    parts["w_price"] = 1 / total
    return Reward((attributes + options + r_price) / total * kind["r_type"], parts)


def _share(matched: int, wanted: Sequence[object]) -> float:
    return matched / len(wanted) if wanted else 1.0
