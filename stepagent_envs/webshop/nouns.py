"""Nouns of product titles, which the type part of the reward compares.

The original asks spaCy at every purchase, so its rewards depend on the installed model. Here the nouns are a table
made when the data are imported: by spaCy's `en_core_web_sm` where it is installed, else by the rule below. Which one
made the table is part of the data hash. The built-in catalogue always uses the rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["RULE", "rule_nouns", "tagger"]

RULE = "rule-1"
"""Name of the rule-based table."""

_NOT_NOUNS = frozenset(
    [
        "a",
        "an",
        "the",
        "this",
        "that",
        "these",
        "those",
        "and",
        "or",
        "but",
        "nor",
        "for",
        "of",
        "in",
        "on",
        "at",
        "by",
        "to",
        "from",
        "with",
        "without",
        "within",
        "into",
        "onto",
        "over",
        "under",
        "up",
        "down",
        "off",
        "out",
        "as",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "am",
        "do",
        "does",
        "did",
        "has",
        "have",
        "had",
        "can",
        "could",
        "will",
        "would",
        "may",
        "might",
        "must",
        "shall",
        "should",
        "not",
        "no",
        "yes",
        "it",
        "its",
        "he",
        "his",
        "him",
        "she",
        "her",
        "hers",
        "they",
        "them",
        "their",
        "we",
        "us",
        "our",
        "you",
        "your",
        "i",
        "me",
        "my",
        "who",
        "whom",
        "whose",
        "which",
        "what",
        "when",
        "where",
        "why",
        "how",
        "all",
        "any",
        "both",
        "each",
        "every",
        "few",
        "many",
        "more",
        "most",
        "much",
        "other",
        "some",
        "such",
        "only",
        "own",
        "same",
        "so",
        "than",
        "too",
        "very",
        "just",
        "also",
        "then",
        "there",
        "here",
        "now",
        "new",
        "extra",
        "super",
        "ultra",
        "best",
        "great",
        "good",
        "better",
        "perfect",
        "easy",
        "compatible",
        "suitable",
        "available",
        "adjustable",
        "portable",
        "durable",
        "waterproof",
        "wireless",
        "foldable",
        "reusable",
        "removable",
        "washable",
        "soft",
        "long",
        "short",
        "large",
        "small",
        "big",
        "mini",
        "medium",
        "tall",
        "wide",
        "slim",
        "thick",
        "thin",
        "heavy",
        "light",
        "lightweight",
        "high",
        "low",
        "natural",
        "organic",
        "white",
        "black",
        "red",
        "blue",
        "green",
        "yellow",
        "pink",
        "purple",
        "brown",
        "grey",
        "gray",
        "beige",
        "dark",
        "bright",
        "multi",
        "double",
        "single",
        "full",
        "free",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "per",
        "via",
        "vs",
        "about",
        "after",
        "before",
        "during",
        "between",
        "against",
        "through",
        "comfortable",
        "casual",
        "elegant",
        "modern",
        "classic",
        "sexy",
        "cute",
        "funny",
        "loose",
        "non",
        "pure",
        "real",
        "true",
        "wooden",
        "rustic",
        "vegan",
        "moisturizing",
        "hydrating",
        "made",
        "using",
        "including",
        "includes",
        "featuring",
        "inspired",
        "printed",
        "fitted",
        "sleeveless",
    ]
)
_WORD = re.compile(r"[A-Za-z][A-Za-z']*")


def rule_nouns(title: str) -> tuple[str, ...]:
    """Words of a title that are in no list of function words, colours and common adjectives, lower case, in order.

    Product titles are strings of nouns; the list takes out what most often is none. One-letter words, words with
    digits and adverbs in -ly are no nouns either.
    """
    words = []
    for word in _WORD.findall(title):
        plain = word.lower().removesuffix("'s").strip("'")
        if len(plain) > 1 and plain not in _NOT_NOUNS and not (plain.endswith("ly") and len(plain) > 4):
            words.append(plain)
    return tuple(words)


def _spacy_pipeline() -> Any | None:
    try:
        import spacy
    except ImportError:
        return None
    try:
        return spacy.load("en_core_web_sm", disable=["parser", "ner", "lemmatizer"])
    except OSError:
        return None


def tagger() -> tuple[str, Callable[[Iterable[str]], Iterator[tuple[str, ...]]]]:
    """Name of the best tagger at hand, and the function that tags a stream of titles."""
    pipeline = _spacy_pipeline()
    if pipeline is None:
        return RULE, lambda titles: map(rule_nouns, titles)
    name = f"spacy-{pipeline.meta['name']}-{pipeline.meta['version']}"

    def tag(titles: Iterable[str]) -> Iterator[tuple[str, ...]]:
        for document in pipeline.pipe(titles, batch_size=256):
            yield tuple(token.text.lower() for token in document if token.pos_ in ("NOUN", "PROPN"))

    return name, tag
