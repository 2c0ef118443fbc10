"""What is wrong with group effects before anything is fitted: too many of them, or one observation for each.

In: a `Design`.  Out: sentences with their severity.  Fits nothing.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from psychostats.design import Design

Severity: TypeAlias = Literal["error", "warning"]


def group_faults(design: Design) -> list[tuple[Severity, str]]:
    """Say which group effects the trials cannot tell from the chance of single trials.

    Parameters
    ----------
    design
        Of the trials that are to be fitted.

    Returns
    -------
    list
        A severity and a sentence for each block at fault, at most one a block, in the design's order. Errors are what
        lme4 stops at: more random effects than trials, and levels of one 0/1 trial each. A level of one row of counts
        is a warning: its effect is overdispersion, which counts can show.
    """
    found: list[tuple[Severity, str]] = []
    trials = int(design.trials.sum())
    for block in design.blocks:
        effects = len(block.levels) * len(block.terms)
        rows = np.bincount(block.index[block.index >= 0], minlength=len(block.levels))
        if effects > trials:
            size = f"{len(block.levels):,} levels x {len(block.terms)} term{'s' * (len(block.terms) > 1)}"
            found.append(
                (
                    "error",
                    f"group '{block.group}' has more random effects than observations: {size} = {effects:,}, and "
                    f"{trials:,} trials; leave out slopes, or the group.",
                )
            )
        elif (rows == 1).all():
            counts = bool((design.trials > 1).any())
            which = "overdispersion" if counts else "the chance of a single trial"
            found.append(
                (
                    "warning" if counts else "error",
                    f"every level of {block.group} has one observation only, so that its effect is {which}; "
                    f"{'read it as that' if counts else 'leave the group out'}.",
                )
            )
    return found
