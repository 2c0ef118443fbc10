"""Do the predictors separate right answers from wrong ones, so that the likelihood has no maximum?

In: a `Design`.  Out: a sentence that names the terms, or nothing.  By linear programming, exactly: there is a direction
d with X d >= 0 where all answers are right, X d <= 0 where all are wrong, X d = 0 where there are both, not all zero
(Albert and Anderson 1984; Konis 2007).  Group effects do not enter: they are held by their own distribution.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize

from psychostats.design import Design


def separated(design: Design) -> str:
    """Return a sentence that names the fixed effects which separate the answers; empty where none do."""
    size = np.maximum(np.abs(design.X).max(axis=0), np.finfo(float).tiny)
    rows, place = np.unique(design.X / size, axis=0, return_inverse=True)
    right = np.bincount(place.ravel(), design.successes, minlength=len(rows)) > 0
    wrong = np.bincount(place.ravel(), design.trials - design.successes, minlength=len(rows)) > 0
    one = right != wrong
    signed = rows[one] * np.where(right[one], 1.0, -1.0)[:, np.newaxis]
    if not len(signed):
        return ""
    both = rows[right & wrong]
    found = optimize.linprog(
        -signed.sum(axis=0),
        A_ub=-signed,
        b_ub=np.zeros(len(signed)),
        A_eq=both if len(both) else None,
        b_eq=np.zeros(len(both)) if len(both) else None,
        bounds=(-1.0, 1.0),
        method="highs",
    )
    if found.status != 0 or found.x is None or found.fun is None or found.fun > -1e-7:
        return ""
    if wrong.any() != right.any():
        return (
            f"the likelihood has no maximum: all answers are {'right' if right.any() else 'wrong'}, so b_Intercept and "
            "all other effects are without bound; use --engine pymc, whose priors hold them."
        )
    terms = ", ".join(f"b_{name}" for name, d in zip(design.names, found.x, strict=True) if abs(d) > 1e-7)
    return (
        f"the likelihood has no maximum: {terms} separate{'' if ', ' in terms else 's'} right answers from wrong ones "
        "(a cell in which all answers are alike, say), so it rises for ever; leave the term out, or use --engine pymc, "
        "whose priors hold it."
    )
