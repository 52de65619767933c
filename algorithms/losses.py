"""Losses and returns as pure functions. T is time (tokens or steps), B the batch, V the vocabulary, N chosen places."""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["gather_logprobs", "sft_loss", "token_logprobs"]


def token_logprobs(logits: torch.Tensor, targets: torch.Tensor, allowed: torch.Tensor | None = None) -> torch.Tensor:
    """Natural-log probability of each target.

    Args:
        logits: shape (..., V).
        targets: shape (...), ids.
        allowed: shape (..., V), bool; where given, the probabilities are renormalised over the allowed tokens.

    Returns:
        Shape (...).
    """
    if allowed is not None:
        logits = logits.masked_fill(~allowed, float("-inf"))
    return F.log_softmax(logits, dim=-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def gather_logprobs(logits: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of masked tokens within sequences, 0 elsewhere.

    Args:
        logits: shape (B, T, V); logits[:, t] predicts token t + 1.
        ids: shape (B, T).
        mask: shape (B, T), bool: the tokens asked for. The first token of a sequence has no prediction.

    Returns:
        Shape (B, T): log p(ids[t] | ids[<t]) where the mask is set, else exactly 0 (with gradient exactly 0).
    """
    if bool(mask[:, 0].any()):
        raise ValueError("the first token of a sequence is not predicted by anything: its mask must be False")
    result = torch.zeros(ids.shape, dtype=logits.dtype, device=logits.device)
    rows, columns = mask.nonzero(as_tuple=True)
    return result.index_put((rows, columns), token_logprobs(logits[rows, columns - 1], ids[rows, columns]))


def sft_loss(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Mean negative log-likelihood of the action tokens of a batch (every token counts the same).

    Args:
        logits: shape (N, V), at the places that predict the action tokens.
        targets: shape (N,), the action tokens.
        label_smoothing: in [0, 1).

    Raises:
        ValueError: there is no action token.
    """
    if targets.numel() == 0:
        raise ValueError("the action mask is empty: there is nothing to learn from in this batch")
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
