"""Reading an instruction: what it asks for, and which searches it suggests.

Everything here works on the text that the agent sees, and on nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from stepagent_envs.webshop.analysis import analyse
from stepagent_envs.webshop.reward import NO_CAP

__all__ = ["Clauses", "Wish", "read_clauses", "read_wish", "suggested_queries"]

_CAP = re.compile(r"(\d+(?:\.\d+)?) dollars\s*")
_OPTIONS = re.compile(r" with (?=([^,:]{1,40}): )")
_NEXT_OPTION = re.compile(r", and (?=[^,:]{1,40}: )")
_OPENING = re.compile(
    r"^(?:(?:hello|hi|hey|please)[ ,]+)*(?:find me|show me|get me|place order for|i am looking for|i'm looking for|"
    r"i am looking|i would like|i'd like|i want to buy|i want|i need|looking for|can you find|where can i find)\s+"
    r"(?:(?:to (?:buy|get|find)|an?|some|the|one)\s+)*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Clauses:
    """The parts of an instruction.

    Attributes:
        text: the instruction without its price clause and its opening words.
        base: the same without the options that it lists as "name: value".
        options: those options. cap: the price cap in dollars.
    """

    text: str
    base: str
    options: tuple[tuple[str, str], ...]
    cap: float


@dataclass(frozen=True, slots=True)
class Wish:
    """What an instruction asks for, in index terms.

    Attributes:
        options, cap: as in `Clauses`.
        attributes: phrases that name properties, each as a set of index terms.
        kind: terms of the words that name the kind of product. terms: those of the whole text.
        squeezed: the text without blanks, in lower case.
    """

    options: tuple[tuple[str, str], ...]
    cap: float
    attributes: tuple[frozenset[str], ...]
    kind: frozenset[str]
    terms: frozenset[str]
    squeezed: str


@lru_cache(maxsize=2048)
def read_clauses(instruction: str) -> Clauses:
    """Take an instruction apart."""
    cap = NO_CAP
    before, found, after = instruction.rpartition(" and price lower than ")
    match = _CAP.fullmatch(after) if found else None
    if match:
        cap = float(match.group(1))
        instruction = before.removesuffix(",")
    text = _OPENING.sub("", instruction).strip()
    match = next((m for m in _OPTIONS.finditer(text) if " with " not in m.group(1)), None)
    if match is None:
        return Clauses(text, text, (), cap)
    pairs = (part.split(": ", 1) for part in _NEXT_OPTION.split(text[match.end() :]))
    return Clauses(text, text[: match.start()], tuple((name.strip(), value) for name, value in pairs), cap)


@lru_cache(maxsize=2048)
def read_wish(instruction: str) -> Wish:
    """What an instruction asks for."""
    clauses = read_clauses(instruction)
    phrases, kind = _phrases(clauses.base)
    attributes = dict.fromkeys(frozenset(terms) for phrase in phrases if (terms := analyse(phrase)))
    return Wish(
        clauses.options,
        clauses.cap,
        tuple(attributes),
        frozenset(analyse(kind)),
        frozenset(analyse(clauses.text)),
        clauses.text.replace(" ", "").lower(),
    )


def _phrases(base: str) -> tuple[list[str], str]:
    """Properties and the kind of product of "a, b kind with c, d for e".

    The last property stands before the kind without a comma; properties have two words, or three as in "easy to use".
    """
    head, *tails = re.split(r" (?:with|for) ", base)
    phrases = [phrase for tail in tails for phrase in tail.split(", ")]
    parts = head.split(", ")
    for i, part in enumerate(parts):
        words = part.split()
        if len(words) == 3 and words[1] == "to":
            phrases.append(part)
        elif len(words) > 2:
            taken = 3 if words[1] == "to" and len(words) > 3 else 2
            phrases.append(" ".join(words[:taken]))
            return phrases, " ".join([*words[taken:], *parts[i + 1 :]])
        elif i + 1 < len(parts):
            phrases.append(part)
    return phrases, parts[-1]


def suggested_queries(instruction: str) -> list[str]:
    """Searches that an instruction suggests, the fullest first: all it says, without options, the kind alone."""
    wish = read_clauses(instruction)
    kind = re.split(r" (?:with|for) ", wish.base)[0].split(", ")[-1]
    values = "".join(f" {value}" for _, value in wish.options)
    queries = (wish.base + values, wish.base, kind)
    cleaned = (
        " ".join(query.replace(",", " ").replace("[", " ").replace("]", " ").lower().split()) for query in queries
    )
    return list(dict.fromkeys(query[:1000] for query in cleaned if query))
