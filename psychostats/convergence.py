"""May a fit be read? R-hat, effective sample sizes, divergences and tree depth against their limits.

In: the table of terms and the sampler's statistics.  Out: one `Check` a figure, and a verdict.  Knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd

RHAT_MAX = 1.01
RHAT_MAX_LEVELS = 1.05
ESS_MIN = 400.0
DIVERGENT_SHARE_MAX = 0.001


@dataclass(frozen=True)
class Check:
    """One figure against its limit.

    Parameters
    ----------
    name
        ``rhat``, ``ess_bulk``, ``ess_tail``, ``divergences`` or ``treedepth_hits``, and ``interrupted``; of a maximum,
        ``singular``, ``large_sd`` or ``rows_a_level``.
    term
        What was checked; None for the sampler as a whole.
    value, limit
        The figure, and the largest (for ESS the smallest) that passes; draws a chain that are there and were asked for.
    verdict
        ``fail`` says that the fit may not be read.
    """

    name: str
    term: str | None
    value: float
    limit: float
    verdict: Literal["pass", "warning", "fail"]

    def row(self) -> dict[str, object]:
        """Return the check as a row of a table."""
        return asdict(self)


def check_convergence(terms: pd.DataFrame, divergences: int, treedepth_hits: int, draws: int) -> tuple[Check, ...]:
    """Judge a fit by its terms and its sampler.

    Parameters
    ----------
    terms
        Every term, those of single levels (class ``r``) included; of these the worst R-hat counts, against a wider
        limit, since there are hundreds.
    divergences, treedepth_hits, draws
        Counts over all chains after warm-up.
    """
    checks = []
    main = terms[terms["class"] != "r"]
    for name, limit in (("rhat", RHAT_MAX), ("ess_bulk", ESS_MIN), ("ess_tail", ESS_MIN)):
        for term, value in zip(main["term"], main[name], strict=True):
            good = value <= limit if name == "rhat" else value >= limit
            checks.append(Check(name, str(term), float(value), limit, "pass" if good else "fail"))
    levels = terms[terms["class"] == "r"]
    if len(levels):
        rhat = levels["rhat"].to_numpy(dtype=float)
        worst = int(np.argmax(np.where(np.isnan(rhat), np.inf, rhat)))
        good = bool(rhat[worst] <= RHAT_MAX_LEVELS)
        checks.append(
            Check(
                "rhat", str(levels["term"].iloc[worst]), float(rhat[worst]), RHAT_MAX_LEVELS, "pass" if good else "fail"
            )
        )
    most = DIVERGENT_SHARE_MAX * draws
    verdict: Literal["pass", "warning", "fail"] = (
        "pass" if divergences == 0 else "warning" if divergences <= most else "fail"
    )
    checks.append(Check("divergences", None, float(divergences), most, verdict))
    checks.append(Check("treedepth_hits", None, float(treedepth_hits), 0.0, "warning" if treedepth_hits else "pass"))
    return tuple(checks)


def converged(checks: Iterable[Check]) -> bool:
    """Whether no check failed."""
    return all(check.verdict != "fail" for check in checks)


def explain(checks: Iterable[Check]) -> list[str]:
    """Say in sentences what did not pass, the worst of each kind first, and what helps."""
    words = {
        "interrupted": (
            "Interrupted: {value:.0f} of {limit:.0f} draws a chain are there",
            "fit again to draw all of them",
        ),
        "rhat": (
            "R-hat of {term} is {value:.3f} (at most {limit:g})",
            "the chains disagree; draw longer (tune, draws)",
        ),
        "ess_bulk": ("Bulk ESS of {term} is {value:.0f} (at least {limit:g})", "draw longer (draws)"),
        "ess_tail": ("Tail ESS of {term} is {value:.0f} (at least {limit:g})", "draw longer (draws)"),
        "divergences": (
            "{value:.0f} divergent transitions (at most {limit:g})",
            "the posterior has corners the sampler cannot enter; simplify the group effects or use tighter priors on "
            "sd",
        ),
        "singular": (
            "Singular fit: {term} {lies} (an SD of 0, a correlation of -1 or 1)",
            "the trials cannot tell so many group effects apart; the other estimates stand, their standard errors with "
            "it held there; || or fewer slopes make a smaller model, --engine pymc a prior that keeps it inside",
        ),
        "large_sd": (
            "{term} is {value:.3g} (above {limit:g} on the link scale)",
            "answers of whole levels are alike, and Laplace's approximation is not to be relied on there; use --engine "
            "pymc, or --quadrature where the model is one (1 | group)",
        ),
        "rows_a_level": (
            "Every level of {term} has one observation only",
            "its effect is overdispersion of counts, or the chance of a single trial; read it as that, or leave it out",
        ),
        "treedepth_hits": (
            "{value:.0f} transitions hit the greatest tree depth",
            "slow, not wrong; ESS says whether to draw longer",
        ),
    }
    sentences = []
    for name, (what, helps) in words.items():
        bad = [check for check in checks if check.name == name and check.verdict != "pass"]
        if not bad:
            continue
        if name == "singular":
            terms = ", ".join(str(check.term) for check in bad)
            plural = "lie at their boundaries" if len(bad) > 1 else "lies at the boundary"
            sentences.append(f"{what.format(term=terms, lies=plural)}: {helps}.")
            continue
        worst = max(
            bad, key=lambda c: np.inf if np.isnan(c.value) else c.value if name in ("rhat", "large_sd") else -c.value
        )
        others = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        if np.isnan(worst.value):
            figure = what.partition(" is ")[0].format(term=worst.term)
            sentences.append(f"{figure}{others} cannot be computed: it needs several chains whose draws vary.")
            continue
        shown = round(worst.value, 3 if name == "rhat" else 0)
        if shown == worst.limit:  # a figure just past its limit must not read as the limit itself
            shown += 0.001 if name == "rhat" else -1
        sentences.append(f"{what.format(term=worst.term, value=shown, limit=worst.limit)}{others}: {helps}.")
    return sentences
