"""Do the predictors separate right answers from wrong ones, so that the likelihood has no maximum?

In: a `Design`.  Out: a sentence that names the terms, or nothing.  By linear programming, exactly: there is a direction
d with X d >= 0 where all answers are right, X d <= 0 where all are wrong, X d = 0 where there are both, not all zero
(Albert and Anderson 1984; Konis 2007).  Group effects do not enter: they are held by their own distribution.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from psychostats.design import Design

_SPLIT = 1e-6  # of a weight, each at most 1, below which rounding cannot tell it from none


def separated(design: Design) -> str:
    """Return a sentence that names the fixed effects which separate the answers; empty where none do."""
    terms = separating(design)
    if not terms:
        return ""
    wrong, right = bool((design.trials > design.successes).any()), bool(design.successes.any())
    if wrong != right:
        return (
            f"the likelihood has no maximum: all answers are {'right' if right else 'wrong'}, so b_Intercept and all "
            "other effects are without bound; use --engine pymc, whose priors hold them."
        )
    listed = ", ".join(f"b_{name}" for name in terms[:5]) + (f" and {len(terms) - 5} more" if len(terms) > 5 else "")
    return (
        f"the likelihood has no maximum: {listed} separate{'' if len(terms) > 1 else 's'} right answers from wrong "
        "ones (a cell in which all answers are alike, say), so it rises for ever; leave the term out, or use --engine "
        "pymc, whose priors hold it."
    )


def separating(design: Design) -> tuple[str, ...]:
    """Return the columns that tell some right answers from wrong ones without error; none where no combination does."""
    size = np.maximum(np.abs(design.X).max(axis=0), np.finfo(float).tiny)
    rows, place = np.unique(design.X / size, axis=0, return_inverse=True)
    right = np.bincount(place.ravel(), design.successes, minlength=len(rows)) > 0
    wrong = np.bincount(place.ravel(), design.trials - design.successes, minlength=len(rows)) > 0
    alike = right != wrong
    signed = rows[alike] * np.where(right[alike], 1.0, -1.0)[:, np.newaxis]
    if not len(signed):
        return ()
    from scipy import optimize  # here, since it is asked only where a model may have no maximum

    both = rows[right & wrong]
    found: Any = optimize.linprog(
        -signed.sum(axis=0),
        A_ub=-signed,
        b_ub=np.zeros(len(signed)),
        A_eq=both if len(both) else None,
        b_eq=np.zeros(len(both)) if len(both) else None,
        bounds=(-1.0, 1.0),
        method="highs",
    )
    if found.status != 0 or -found.fun < _SPLIT:
        return ()
    return tuple(name for name, d in zip(design.names, found.x, strict=True) if abs(d) > _SPLIT)


def uniform_groups(design: Design) -> tuple[str, ...]:
    """Return the groups with an intercept of which every level's answers are all right or all wrong.

    Where most levels have several answers, an intercept's SD then is without bound, and Laplace's approximation, poor
    so far out, has maxima of its own there that lean to one side.
    """
    found = []
    for block in design.blocks:
        right = np.bincount(block.index, design.successes, minlength=len(block.levels))
        every = np.bincount(block.index, design.trials, minlength=len(block.levels))
        alike = bool(((right == 0) | (right == every)).all())
        if "Intercept" in block.terms and alike and np.median(every) > 1:
            found.append(block.group)
    return tuple(dict.fromkeys(found))
