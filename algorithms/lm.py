"""Causal language models: the small presets that learn from scratch, and loading any other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from algorithms.algorithm import ConfigError
from stepagent_envs.errors import did_you_mean

__all__ = [
    "PRESETS",
    "Preset",
    "count_parameters",
    "hidden_and_logits",
    "load_model",
    "logits_at",
    "new_model",
    "quiet",
]


@dataclass(frozen=True)
class Preset:
    """Size of a model from scratch: width, layers, attention heads, width of the feed-forward part."""

    width: int
    layers: int
    heads: int
    feed_forward: int


PRESETS = {
    "nano": Preset(width=64, layers=2, heads=4, feed_forward=176),
    "tiny": Preset(width=128, layers=4, heads=4, feed_forward=352),
    "small": Preset(width=256, layers=6, heads=8, feed_forward=704),
}
"""Parameters without embeddings: nano 0.1 M (for tests), tiny 0.8 M, small 4.8 M."""

_BASE_THEN_HEAD = {"llama", "qwen2", "qwen3", "mistral"}  # logits = head(hidden state), with nothing in between


def new_model(preset: str, tokenizer: Any, window: int, seed: int) -> LlamaForCausalLM:
    """A Llama-style model with random weights (standard deviation 1/√width), decided by the seed alone.

    Args:
        preset: one of `PRESETS`.
        tokenizer: decides the vocabulary and the special tokens.
        window: the most positions.
        seed: of the weights; the global generator is left as it was.
    """
    if preset not in PRESETS:
        raise ConfigError(f"no model preset {preset!r}; {did_you_mean(preset, PRESETS)}")
    size = PRESETS[preset]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        intermediate_size=size.feed_forward,
        max_position_embeddings=window,
        initializer_range=1 / math.sqrt(size.width),
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def load_model(path: str | Path, device: str = "cpu", dtype: str = "float32") -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer from a folder (or a hub id).

    Raises:
        ConfigError: there is no such model, or its tokenizer is missing or does not fit.
    """
    if not hasattr(torch, dtype):
        raise ConfigError(f"no number format {dtype!r}; known: float32, bfloat16, float16")
    if not Path(path).is_dir() and str(path).count("/") != 1:
        raise ConfigError(f"cannot load a model from {str(path)!r}: no such folder, and no hub id ('owner/name')")
    try:
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(
                str(path), dtype=getattr(torch, dtype), attn_implementation="sdpa"
            )
            tokenizer = AutoTokenizer.from_pretrained(str(path))
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"cannot load a causal language model from {str(path)!r}: {reason}") from None
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ConfigError(f"{path}: the tokenizer has {len(tokenizer)} tokens, the model only {rows} embeddings")
    return model.to(device).eval(), tokenizer


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing its own progress bars meanwhile."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


def count_parameters(model: torch.nn.Module) -> int:
    """Number of parameters, tied ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def logits_at(model: Any, ids: torch.Tensor, rows: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Logits of the next token at chosen places, computed nowhere else where the architecture allows it.

    Args:
        model: a causal language model.
        ids: shape (B, T), padded on the right (what is padded cannot influence what stands before it).
        rows, positions: shape (N,), the places.

    Returns:
        Shape (N, V), float32.
    """
    return hidden_and_logits(model, ids, rows, positions)[1]


def hidden_and_logits(
    model: Any, ids: torch.Tensor, rows: torch.Tensor, positions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `logits_at`, and before them the last hidden states everywhere, shape (B, T, H), in the model's own type."""
    if model.config.model_type in _BASE_THEN_HEAD:
        hidden = model.base_model(input_ids=ids, use_cache=False)[0]
        return hidden, model.get_output_embeddings()(hidden[rows, positions]).float()
    output = model(input_ids=ids, use_cache=False, output_hidden_states=True)
    return output.hidden_states[-1], output.logits[rows, positions].float()
