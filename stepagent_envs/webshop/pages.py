"""Pages as text: the words of the original's web pages, in its modes `text` and `text_rich`.

A page is a list of nodes (kind, text), in the order in which the original's HTML holds them. `text` joins them by
" [SEP] "; `text_rich` writes one a line and marks what can be clicked and what has been. Links to products are nodes
of kind "link", option values "option", buttons "button", and everything else "text".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from stepagent_envs.webshop.catalogue import Product
from stepagent_envs.webshop.state import PAGE_SIZE, View

__all__ = ["MODES", "Node", "clickables", "done_nodes", "item_nodes", "json_text", "rich_text", "result_nodes"]
__all__ += ["page_rows", "plain_text", "search_nodes", "sub_nodes"]

MODES = ("text", "text_rich", "html")
"""Observation modes."""

NodeKind = Literal["text", "button", "link", "option"]
Node = tuple[NodeKind, str]

_ASCII_SPACES = " \n\t\f\r"


def _node(text: str) -> list[Node]:
    """A text node as an HTML parser keeps it: blank text shrinks to one blank or line break, empty text vanishes."""
    if not text:
        return []
    if not text.strip(_ASCII_SPACES):
        return [] if "\n" in text else [("text", " ")]
    return [("text", text)]


def json_text(options: Sequence[tuple[str, str]]) -> str:
    """Chosen options as JSON with sorted keys, characters that mean something in HTML escaped."""
    return script_json(dict(options))


def script_json(value: object) -> str:
    """JSON that is safe inside HTML."""
    text = json.dumps(value, sort_keys=True)
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def search_nodes(instruction: str) -> list[Node]:
    """The page with the search box."""
    return [("text", "WebShop"), ("text", "Instruction: "), *_node(instruction), ("button", "Search")]


def _head(instruction: str) -> list[Node]:
    return [("text", "Instruction:"), *_node(instruction), ("button", "Back to Search")]


def page_rows(rows: Sequence[int], page: int) -> Sequence[int]:
    """The rows of a result page (pages count from 1; a page 0, which only the original has, is empty)."""
    return rows[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]


def result_nodes(instruction: str, products: Sequence[Product], page: int, total: int, has_next: bool) -> list[Node]:
    """A page of search results: the products of that page, out of `total`."""
    nodes = [*_head(instruction), ("text", f"Page {page} (Total results: {total})")]
    if page > 1:
        nodes.append(("button", "< Prev"))
    if has_next:
        nodes.append(("button", "Next >"))
    for product in products:
        nodes += [("link", product.asin), *_node(product.title), *_node(product.price_tag)]
    return nodes


def item_nodes(instruction: str, product: Product, show_attributes: bool) -> list[Node]:
    """A product's page."""
    nodes = [*_head(instruction), ("button", "< Prev")]
    for name, values in product.options.items():
        nodes += _node(name)
        nodes += [("option", text) for value in values for _, text in _node(value)]
    nodes += _node(product.title)
    nodes += [("text", f"Price: {product.price_tag}"), ("text", f"Rating: {product.rating}")]
    nodes += [("button", name) for name in ("Description", "Features", "Reviews")]
    if show_attributes:
        nodes.append(("button", "Attributes"))
    nodes.append(("button", "Buy Now"))
    return nodes


def sub_nodes(instruction: str, product: Product, sub: str) -> list[Node]:
    """One of a product's sub-pages."""
    nodes = [*_head(instruction), ("button", "< Prev")]
    if sub == "Description":
        nodes += _node(product.description)
    elif sub == "Features":
        nodes += [node for bullet in product.bullets for node in _node(f" {bullet}")]
    elif sub == "Reviews":
        for review in product.reviews:
            nodes += [*_node(f'"{review.title}"'), *_node(str(review.score)), *_node(review.body)]
    else:
        nodes += [node for attribute in product.attributes for node in _node(f" {attribute}")]
        nodes += [*_node(product.category), *_node(product.query), *_node(product.product_category)]
    return nodes


def done_nodes(view: View) -> list[Node]:
    """The page after a purchase."""
    texts = [
        "Thank you for shopping with us!",
        "Your code: ",
        "None",
        " (Paste it in your MTurk interface.)",
        "Purchased",
    ]
    texts += ["asin", view.session.asin or "", "options", json_text(view.session.options)]
    for name in ("attrs", "category", "query", "product category"):
        texts += [name, "None"]
    texts += ["Target", "asin", "options", "attrs", "price upper", "instuction text", "category", "product category"]
    texts += ["query", "Goal ", "None", "Reward", "Your score (min 0.0, max 1.0)", str(view.reward), "Reward Details "]
    return [("text", text) for text in [*texts, "None"]]


def clickables(nodes: Sequence[Node]) -> list[str]:
    """What can be clicked, in lower case as the original lists it: buttons and links first, then option values."""
    first = [text.lower() for kind, text in nodes if kind in ("button", "link")]
    return list(dict.fromkeys(first + [text for kind, text in nodes if kind == "option"]))


def plain_text(nodes: Sequence[Node]) -> str:
    """Mode `text`."""
    return " [SEP] ".join(text.strip() for _, text in nodes)


def rich_text(nodes: Sequence[Node], clicked: Sequence[bool]) -> str:
    """Mode `text_rich`.

    Args:
        nodes: of the page.
        clicked: for each node whether it has been clicked (only links and options are ever marked).
    """
    lines = []
    notes: list[str] = []
    for (kind, text), was_clicked in zip(nodes, clicked, strict=True):
        if kind == "text":
            lines.append(text)
            continue
        indent = {"button": "", "link": "\n", "option": "  "}[kind]
        label = "clicked button" if was_clicked and kind != "button" else "button"
        if was_clicked and kind == "option":
            notes.insert(0, f"You have clicked {text}.\n")
        lines.append(f"{indent}[{label}] {text} [{label}_]")
    return "".join(notes) + "\n".join(lines) + "\n"
