"""Text analysis for search: what Lucene's English analyser does, in plain Python.

The chain is: standard tokenizer (Unicode word breaks, UAX #29), possessive `'s` removed, lower case, stop words
removed, Porter stemmer. Emoji and pictographs are tokens of their own, ideographs and Hiragana single-character tokens.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

__all__ = ["STOP_WORDS", "analyse", "tokenize"]

STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "but",
        "by",
        "for",
        "if",
        "in",
        "into",
        "is",
        "it",
        "no",
        "not",
        "of",
        "on",
        "or",
        "such",
        "that",
        "the",
        "their",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "will",
        "with",
    ]
)
"""The stop words of Lucene's English analyser."""

MAX_TOKEN_LENGTH = 255
"""Longer runs are cut into pieces of this length, as Lucene's standard tokenizer does."""

_POSSESSIVES = ("'s", "'S", "\u2019s", "\u2019S", "\uff07s", "\uff07S")

# Classes of UAX #29, written as character-class fragments.
_SINGLE = "\u3005\u3007\u3021-\u3029\u3038-\u303b\u3041-\u3096\u309d-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SINGLE += "\U0001b001-\U0001b11f\U00020000-\U0003134f"
_KATAKANA = "\u3031-\u3035\u309b\u309c\u30a0-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u32d0-\u32fe\u3300-\u3357\uff66-\uff9d"
_SE_ASIAN = "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0edf\u1000-\u103f\u1780-\u17d3"
_EXTEND = "\u00ad\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0900-\u0903\u093a-\u094f"
_EXTEND += "\u0981-\u0983\u09bc-\u09cd\u200c-\u200f\u202a-\u202e\u2060-\u2064\u20d0-\u20f0\u302a-\u302f\u3099\u309a"
_EXTEND += "\ufe00-\ufe0f\ufe20-\ufe2f\ufeff\uff9e\uff9f\U0001f3fb-\U0001f3ff\U000e0100-\U000e01ef"
_OTHER_NUMBERS = "\u00b2\u00b3\u00b9\u00bc-\u00be\u09f4-\u09f9\u0b72-\u0b77\u0bf0-\u0bf2\u0c78-\u0c7e\u0d58-\u0d5e"
_OTHER_NUMBERS += "\u0d70-\u0d78\u0f2a-\u0f33\u1369-\u137c\u17f0-\u17f9\u19da\u2070\u2074-\u2079\u2080-\u2089"
_OTHER_NUMBERS += "\u2150-\u215f\u2189\u2460-\u249b\u24ea-\u24ff\u2776-\u2793\u2cfd\u3192-\u3195\u3220-\u3229"
_OTHER_NUMBERS += "\u3248-\u324f\u3251-\u325f\u3280-\u3289\u32b1-\u32bf\ua830-\ua835\U00010107-\U00010133"
_OTHER_NUMBERS += "\U0001f100-\U0001f10c"
_PICTOGRAPHS = "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u2388\u23cf"
_PICTOGRAPHS += "\u23e9-\u23f3\u23f8-\u23fa\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u2605\u2607-\u2612"
_PICTOGRAPHS += "\u2614-\u2685\u2690-\u2705\u2708-\u2712\u2714\u2716\u271d\u2721\u2728\u2733\u2734\u2744\u2747"
_PICTOGRAPHS += "\u274c\u274e\u2753-\u2755\u2757\u2763-\u2767\u2795-\u2797\u27a1\u27b0\u27bf\u2934\u2935\u2b05-\u2b07"
_PICTOGRAPHS += "\u2b1b\u2b1c\u2b50\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001f0ff\U0001f10d-\U0001f10f\U0001f12f"
_PICTOGRAPHS += "\U0001f16c-\U0001f171\U0001f17e\U0001f17f\U0001f18e\U0001f191-\U0001f19a\U0001f1ad-\U0001f1e5"
_PICTOGRAPHS += "\U0001f201-\U0001f20f\U0001f21a\U0001f22f\U0001f232-\U0001f23a\U0001f23c-\U0001f23f"
_PICTOGRAPHS += "\U0001f249-\U0001f3fa\U0001f400-\U0001f53d\U0001f546-\U0001f64f\U0001f680-\U0001f6ff"
_PICTOGRAPHS += "\U0001f774-\U0001f77f\U0001f7d5-\U0001f7ff\U0001f80c-\U0001f80f\U0001f848-\U0001f84f"
_PICTOGRAPHS += "\U0001f85a-\U0001f85f\U0001f888-\U0001f88f\U0001f8ae-\U0001f8ff\U0001f90c-\U0001f93a"
_PICTOGRAPHS += "\U0001f93c-\U0001f945\U0001f947-\U0001faff\U0001fc00-\U0001fffd"

_MID_LETTER = ":\u00b7\u0387\u055f\u05f4\u2027\ufe13\ufe55\uff1a"
_MID_BOTH = ".'\u2018\u2019\u2024\ufe52\uff07\uff0e"
_MID_NUMBER = ",;\u037e\u0589\u060c\u060d\u066c\u07f8\u2044\ufe10\ufe14\ufe50\ufe54\uff0c\uff1b"


def _word(letter: str, extend: str) -> str:
    """Pattern of a word: letters, digits and underscores, joined over single middle punctuation of the right kind."""
    mark = f"[{extend}]*" if extend else ""
    digit = r"\d"
    letters = rf"{letter}{mark}"
    digits = rf"{digit}{mark}"
    over_letters = rf"[{_MID_LETTER}{_MID_BOTH}]{mark}(?={letter})"
    over_digits = rf"[{_MID_NUMBER}{_MID_BOTH}]{mark}(?={digit})"
    run = rf"(?:(?:{letters})+(?:{over_letters}(?:{letters})+)*|(?:{digits})+(?:{over_digits}(?:{digits})+)*|_{mark})+"
    return rf"_*(?={letter}|{digit}){run}"


_ASCII_WORDS = re.compile(_word("[A-Za-z]", ""))


@lru_cache(maxsize=1)
def _words() -> re.Pattern[str]:
    """The pattern for text of any script (compiled when the first such text comes)."""
    pictograph = rf"[{_PICTOGRAPHS}][\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]*"
    emoji = rf"{pictograph}(?:\u200d{pictograph})*|[\U0001f1e6-\U0001f1ff]{{1,2}}|[0-9#*]\ufe0f?\u20e3"
    no_letter = f"(?![{_SINGLE}{_KATAKANA}{_SE_ASIAN}{_EXTEND}{_OTHER_NUMBERS}])"
    return re.compile(
        "|".join(
            (
                emoji,
                _word(rf"(?:{no_letter}[^\W\d_]|[\u24b6-\u24e9])", _EXTEND),
                rf"[{_KATAKANA}][{_KATAKANA}{_EXTEND}_]*",
                rf"[{_SE_ASIAN}][{_SE_ASIAN}{_EXTEND}]*",
                rf"[{_SINGLE}][{_EXTEND}]*",
            )
        )
    )


def tokenize(text: str) -> list[str]:
    """Split a text into words as Lucene's standard tokenizer does (cases kept, only punctuation removed)."""
    words = _ASCII_WORDS if text.isascii() else _words()
    tokens = [match.group() for match in words.finditer(text)]
    if len(text) > MAX_TOKEN_LENGTH and any(len(token) > MAX_TOKEN_LENGTH for token in tokens):
        tokens = [token[i : i + MAX_TOKEN_LENGTH] for token in tokens for i in range(0, len(token), MAX_TOKEN_LENGTH)]
    return tokens


_stemmer: Any = None


def _porter(word: str) -> str:
    """Lucene's Porter stemmer: Snowball's with the later rules `bli` -> `ble` and `logi` -> `log`; short words stay."""
    global _stemmer
    if len(word) <= 2:
        return word
    if _stemmer is None:
        import Stemmer

        _stemmer = Stemmer.Stemmer("porter", 0)
    stem: str = _stemmer.stemWord(word)
    if stem.endswith("logi") and _has_measure(stem[:-4]):
        return stem[:-1]
    if stem.endswith("bli") and _has_measure(stem[:-3]):
        stem = _stemmer.stemWord(stem[:-1] + "e")
    return stem


def _has_measure(stem: str) -> bool:
    """Porter's m > 0: somewhere a vowel is followed by a consonant (y counts as a vowel after a consonant)."""
    seen_vowel = False
    vowel = False
    for i, letter in enumerate(stem):
        vowel = letter in "aeiou" or (letter == "y" and i > 0 and not vowel)
        if seen_vowel and not vowel:
            return True
        seen_vowel = seen_vowel or vowel
    return False


@lru_cache(maxsize=1 << 17)
def _term(token: str) -> str | None:
    """The index term of a token, or None for a stop word."""
    if token.endswith(_POSSESSIVES):
        token = token[:-2]
    token = token.replace("\u0130", "i").lower()
    if token in STOP_WORDS:
        return None
    return _porter(token)


def analyse(text: str) -> list[str]:
    """Index terms of a text, in order, with repeats."""
    return [term for token in tokenize(text) if (term := _term(token)) is not None]
