"""What is wrong with group effects before anything is fitted: too many of them, or one observation for each.

In: a `Design`.  Out: sentences.  Fits nothing.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from psychostats.design import Block, Design

# Share of a column's length that must be left beside the columns before it; as for the fixed part, numbers that vary by
# 1e-9 of their size are refused before, and rounding leaves some 1e-15.
_LOST = 1e-11


def group_faults(design: Design, *, continuous: bool = False) -> list[str]:
    """Say which group effects cannot be told apart, from one another or from the chance of single trials.

    Parameters
    ----------
    design
        Of the trials that are to be fitted.
    continuous
        Whether the response is a measurement, so that a level of one row cannot be told from the residual. (Of answers,
        such a group is fitted, with a warning: see `single_rows`.)

    Returns
    -------
    list
        A sentence for each fault.
    """
    found = []
    trials = int(design.trials.sum())
    for block in design.blocks:
        effects = len(block.levels) * len(block.terms)
        if effects > trials:
            size = f"{len(block.levels):,} levels x {len(block.terms)} term{'s' * (len(block.terms) > 1)}"
            found.append(
                f"group '{block.group}' has more random effects than observations: {size} = {effects:,}, and "
                f"{trials:,} {'rows' if continuous else 'trials'}; leave out slopes, or the group."
            )
        elif continuous and single_rows(block):
            found.append(
                f"every level of {block.group} has one observation only, so that its effect is the residual; leave the "
                "group out."
            )
    found += [sentence for block in design.blocks if (sentence := _dependent(block))]
    for one, other in combinations(design.blocks, 2):
        if one.group != other.group and _alike(one, other):
            effect = f"({' + '.join(other.terms)} | {other.group})".replace("Intercept", "1")
            found.append(
                f"{one.group} and {other.group} divide the trials alike, so that their SDs cannot be told apart; leave "
                f"out {effect}."
            )
    return found


def _dependent(block: Block) -> str:
    """Say which column of a block follows from those before it, so that its SD is unknown; empty if none does."""
    if len(block.terms) < 2 or len(block.Z) < len(block.terms):
        return ""
    size = np.maximum(np.abs(block.Z).max(axis=0), np.finfo(float).tiny)
    columns = block.Z / size
    columns /= np.maximum(np.linalg.norm(columns, axis=0), np.finfo(float).tiny)
    for place in range(1, len(block.terms)):
        # Independent effects of three columns can be told apart where one is the sum of the others, not where two are
        # each other's multiple.
        correlated = block.structure == "correlated"
        for wide in [columns[:, :place]] if correlated else [columns[:, [i]] for i in range(place)]:
            left = columns[:, place] - wide @ np.linalg.lstsq(wide, columns[:, place], rcond=None)[0]
            if np.linalg.norm(left) < _LOST:
                sources = ", ".join(block.terms[:place])
                return (
                    f"the effect of {block.terms[place]} within {block.group} follows from those of {sources}, so that "
                    "their SDs cannot be told apart; leave it out."
                )
    return ""


def _alike(one: Block, other: Block) -> bool:
    """Whether two groups have the same rows in their levels, and a column in common."""
    if len(one.levels) != len(other.levels):
        return False
    if not any(np.array_equal(a, b) for a in one.Z.T for b in other.Z.T):
        return False
    return len(np.unique(one.index * len(other.levels) + other.index)) == len(one.levels)


def single_rows(block: Block) -> bool:
    """Whether every level of a group has one row only."""
    return bool((np.bincount(block.index[block.index >= 0], minlength=len(block.levels)) == 1).all())
