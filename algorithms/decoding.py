"""How a model's next tokens become an action: free, constrained to what is admissible, or a choice among it.

Log-probabilities that go with an action are those of the distribution it was drawn from, at temperature 1: the model's
own in `free` and `choice`; in `constrained`, renormalised over the tokens that were allowed (a token without an
alternative has log-probability 0). `allowed_along` gives the allowed tokens again, so that training can recompute them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from algorithms.algorithm import ConfigError
from algorithms.prompts import PromptFormat
from stepagent_envs.errors import did_you_mean

__all__ = ["ActionTrie", "Decoding", "Walk", "allowed_along", "pick", "slot_tokens"]

MODES = ("constrained", "free", "choice")


@dataclass(frozen=True)
class Decoding:
    """How actions are made.

    Attributes:
        mode: "free" generates until the end token and takes the text as it is; "constrained" allows only tokens that
            lead to an admissible action (or fill an open slot such as `search[…]`); "choice" scores every admissible
            action and takes one.
        temperature: 0 takes the most likely; else probabilities are p^(1/temperature), renormalised.
        max_slot_tokens: the most tokens in an open slot.
        length_penalty: in "choice", an action's score is its log-probability divided by (number of tokens)^penalty:
            0 is the probability of the action, 1 the mean of its tokens.
    """

    mode: str = "constrained"
    temperature: float = 0.0
    max_slot_tokens: int = 12
    length_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"no decoding {self.mode!r}; {did_you_mean(self.mode, MODES)}")
        if not self.temperature >= 0:
            raise ConfigError(f"decoding temperature must be at least 0, got {self.temperature!r}")
        if self.max_slot_tokens < 1:
            raise ConfigError(f"decoding max_slot_tokens must be at least 1, got {self.max_slot_tokens!r}")
        if not 0 <= self.length_penalty <= 2:
            raise ConfigError(f"decoding length_penalty must be between 0 and 2, got {self.length_penalty!r}")


def slot_tokens(tokenizer: Any) -> np.ndarray:
    """Shape (V,), bool: the tokens that may fill an open slot (text without brackets or line breaks)."""
    size = len(tokenizer)
    allowed = np.zeros(size, dtype=bool)
    special = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    for i in range(size):
        if i in special:
            continue
        text = tokenizer.decode([i], clean_up_tokenization_spaces=False)
        allowed[i] = "\ufffd" not in text and not set(text) & set("[]{}<>\n\r\t\u2060")
    return allowed


@dataclass(slots=True)
class _Slot:
    """An open template as tokens: `before`, then any text, then `after` (which includes the end of the action)."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class ActionTrie:
    """The token sequences that are allowed in a state: actions, and templates with one open slot.

    Args:
        actions: the admissible actions.
        templates: open actions, with `{}` where any text goes, for example `"search[{}]"`.
        prompt: makes ids of them.
        slot: which tokens may fill a slot (see `slot_tokens`).
        max_slot_tokens: the most of them.
    """

    def __init__(
        self,
        actions: Sequence[str],
        templates: Sequence[str],
        prompt: PromptFormat,
        slot: np.ndarray,
        max_slot_tokens: int,
    ) -> None:
        self.prompt = prompt
        self.slot = slot
        self.max_slot_tokens = max_slot_tokens
        self.actions: dict[tuple[int, ...], str] = {}
        for action in actions:
            self.actions.setdefault(tuple(prompt.encode_action(action)), action)
        self.templates: list[_Slot] = []
        for template in templates:
            before, braces, after = template.partition("{}")
            if not braces:
                self.actions.setdefault(tuple(prompt.encode_action(template)), template)
                continue
            self.templates.append(self._template(before, after))

    def __bool__(self) -> bool:
        return bool(self.actions or self.templates)

    def walk(self) -> Walk:
        """A new walk from the root."""
        return Walk(self)

    def _template(self, before: str, after: str) -> _Slot:
        """Tokenise a template with a one-token word in the slot, and take that word out again."""
        key = (before, after)
        known = self.prompt.templates.get(key)
        if known is None:
            known = self._probe(before, after)
            self.prompt.templates[key] = known
        return _Slot(*known)

    def _probe(self, before: str, after: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        for token in np.flatnonzero(self.slot)[::-1]:
            word = self.prompt.tokenizer.decode([token]).strip()
            ids = self.prompt.encode_action(before + word + after) if word else []
            if ids.count(token) == 1:
                at = ids.index(token)
                return tuple(ids[:at]), tuple(ids[at + 1 :])
        raise ConfigError(f"the tokenizer has no word of one token to try the open action {before}{{}}{after} with")


class Walk:
    """A way down a trie, token by token.

    Attributes:
        ids: the tokens so far.
        done: the action is complete.
    """

    def __init__(self, trie: ActionTrie) -> None:
        self.trie = trie
        self.ids: list[int] = []
        self.done = False
        self._candidates: list[tuple[int, ...]] = list(trie.actions)
        self._slots: list[tuple[_Slot, int]] = [(slot, -1) for slot in trie.templates]  # -1: still before the text
        self._filled = 0  # tokens in the slot

    def allowed(self) -> list[int] | np.ndarray:
        """The tokens that may come next: a sorted list of ids, or, inside a slot, a boolean array of shape (V,)."""
        at = len(self.ids)
        fixed = {candidate[at] for candidate in self._candidates}
        text = False
        for slot, after in self._slots:
            if after < 0 and at < len(slot.before):
                fixed.add(slot.before[at])
            elif after < 0:
                text |= self._filled < self.trie.max_slot_tokens
                if self._filled:
                    fixed.add(slot.after[0])
            else:
                fixed.add(slot.after[after])
        if not text:
            return sorted(fixed)
        mask = self.trie.slot.copy()
        mask[list(fixed)] = True
        return mask

    def step(self, token: int) -> None:
        """Go on with a token, which must be allowed."""
        at = len(self.ids)
        self._candidates = [c for c in self._candidates if c[at] == token]
        moved: list[tuple[_Slot, int]] = []
        filled = False
        for slot, after in self._slots:
            if after < 0 and at < len(slot.before):
                if slot.before[at] == token:
                    moved.append((slot, -1))
            elif after < 0:
                if self._filled and token == slot.after[0]:
                    moved.append((slot, 1))
                elif self.trie.slot[token] and self._filled < self.trie.max_slot_tokens:
                    moved.append((slot, -1))
                    filled = True
            elif slot.after[after] == token:
                moved.append((slot, after + 1))
        self._slots = moved
        self._filled += filled
        self.ids.append(token)
        if not self._candidates and not self._slots:
            raise ValueError(f"token {token} is not allowed after {self.ids[:-1]}")
        self.done = token == self.trie.prompt.end_id

    @property
    def action(self) -> str:
        """The action as text (when `done`)."""
        known = self.trie.actions.get(tuple(self.ids))
        return self.trie.prompt.decode_action(self.ids) if known is None else known


def allowed_along(trie: ActionTrie, ids: Sequence[int], vocabulary: int) -> np.ndarray:
    """Which tokens were allowed at each token of an action; shape (len(ids), vocabulary), bool."""
    allowed = np.zeros((len(ids), vocabulary), dtype=bool)
    walk = trie.walk()
    for i, token in enumerate(ids):
        choices = walk.allowed()
        if isinstance(choices, np.ndarray):
            size = min(len(choices), vocabulary)  # of a text model, marks for images may lie beyond
            allowed[i, :size] = choices[:size]
        else:
            allowed[i, choices] = True
        walk.step(token)
    return allowed


def pick(
    logits: np.ndarray, allowed: Sequence[int] | np.ndarray | None, temperature: float, rng: np.random.Generator
) -> tuple[int, float]:
    """Draw a token.

    Args:
        logits: shape (V,).
        allowed: ids, a boolean array of shape (V,), or None for all.
        temperature: 0 takes the most likely (the lowest id among equals); else one number is drawn from `rng`.

    Returns:
        The token and its log-probability at temperature 1 among the allowed.
    """
    if allowed is None:
        ids = np.arange(len(logits))
    elif isinstance(allowed, np.ndarray):
        ids = np.flatnonzero(allowed)
    else:
        ids = np.asarray(allowed)
    chosen = logits[ids].astype(np.float64)
    chosen -= chosen.max()
    if temperature == 0:
        best = int(np.argmax(chosen))
    else:
        weights = np.exp(chosen / temperature)
        sums = np.cumsum(weights)
        best = min(int(np.searchsorted(sums, rng.random() * sums[-1], side="right")), len(ids) - 1)
    return int(ids[best]), float(chosen[best] - np.log(np.exp(chosen).sum()))
