"""A weak start for the toy world: a policy cloned from a teacher with bad habits, which then has to be corrected."""

from __future__ import annotations

import numpy as np

HABIT = 0.65


def biased_traces(traces, seed=0):
    """Traces whose last action is, more often than not, a habit ("on bin", "say[plum]") in place of the right one."""
    rng = np.random.default_rng(seed)
    changed = []
    for trace in traces:
        trace = trace.model_copy(deep=True)
        if rng.random() < HABIT:
            last = trace.steps[-1]
            last.action = "say[plum]" if last.action.startswith("say") else last.action.rsplit(" ", 1)[0] + " bin"
        changed.append(trace)
    return changed
