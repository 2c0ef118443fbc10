"""Which choices matter: what estimates of many specifications say of the choices that made them.

In: a table with a row a specification, its choices and its estimate.  Out: tidy tables, a row a choice, a dimension, or
in all.  Knows no trials, no fit and no words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

Array: TypeAlias = npt.NDArray[np.float64]
Choices: TypeAlias = Mapping[str, Sequence[str]]
"""Dimension -> its choices, the study's own first."""

ABOVE, OPEN, BELOW = "above 0", "open", "below 0"
CONCLUSIONS = (ABOVE, OPEN, BELOW)
TOGETHER = "choices together"
"""What no dimension explains alone."""
_SAME = 1e-12  # of the squared estimates: a sum of squares below it is rounding


def summarise_estimates(rows: pd.DataFrame) -> dict[str, Any]:
    """Summarise the estimates of specifications that differ.

    Parameters
    ----------
    rows
        ``estimate, conf_low, conf_high, conclusion, singular, reason, headline``, each model of the same rows once.

    Returns
    -------
    dict
        ``specifications, estimated, failed, singular``; of those estimated, ``above, open, below`` (counts of
        intervals), ``share_above, median, lowest, highest``; and the study's own ``estimate, conf_low, conf_high,
        conclusion`` with its ``rank`` among them, 1 the smallest (the middle of equal ones).
    """
    known = rows[rows["estimate"].notna()]
    count = known["conclusion"].value_counts()
    own = known[known["headline"]]
    values = known["estimate"].to_numpy(dtype=float)
    found: dict[str, Any] = {
        "specifications": len(rows),
        "estimated": len(known),
        "failed": int((rows["reason"] != "").sum()),
        "singular": int((known["singular"] != "").sum()),
        **{word.split()[0]: int(count.get(word, 0)) for word in CONCLUSIONS},
        "share_above": float(np.mean(known["conclusion"] == ABOVE)) if len(known) else np.nan,
        "median": float(np.median(values)) if len(known) else np.nan,
        "lowest": float(values.min()) if len(known) else np.nan,
        "highest": float(values.max()) if len(known) else np.nan,
    }
    numbers = ("estimate", "conf_low", "conf_high")
    found |= {name: float(own[name].iloc[0]) if len(own) else np.nan for name in numbers}
    found["conclusion"] = str(own["conclusion"].iloc[0]) if len(own) else ""
    at = found["estimate"]
    found["rank"] = float(1 + (values < at).sum() + ((values == at).sum() - 1) / 2) if len(own) else np.nan
    return found


def measure_choices(rows: pd.DataFrame, choices: Choices) -> pd.DataFrame:
    """Summarise the estimates of every choice, over all that it was combined with.

    Parameters
    ----------
    rows
        The grid: a row a specification, with a column a dimension, ``estimate, conclusion, reason``.
    choices
        Dimensions and their choices.

    Returns
    -------
    DataFrame
        ``dimension, choice, own`` (whether it is the study's)``, specifications, estimated, failed, mean, lowest,
        highest, share_above``; choices that no specification has are left out.
    """
    out = []
    for dimension, labels in choices.items():
        for place, label in enumerate(labels):
            mine = rows[rows[dimension] == label]
            if not len(mine):
                continue
            known = mine[mine["estimate"].notna()]
            out.append(
                {
                    "dimension": dimension,
                    "choice": label,
                    "own": place == 0,
                    "specifications": len(mine),
                    "estimated": len(known),
                    "failed": int((mine["reason"] != "").sum()),
                    "mean": known["estimate"].mean(),
                    "lowest": known["estimate"].min(),
                    "highest": known["estimate"].max(),
                    "share_above": (known["conclusion"] == ABOVE).mean() if len(known) else np.nan,
                }
            )
    return pd.DataFrame(out)


def measure_dimensions(rows: pd.DataFrame, choices: Choices) -> pd.DataFrame:
    """Say how much each dimension matters, by three measures.

    Parameters
    ----------
    rows, choices
        As for `measure_choices`.

    Returns
    -------
    DataFrame
        A row a dimension, and a last one, `TOGETHER`: ``dimension, choices`` (how many were tried)``, spread``
        (largest minus smallest mean over its choices)``, share`` (of the variance of the estimates; see
        `share_variance`)``, pairs`` (of specifications that differ in this choice alone, both with an estimate)``,
        changed`` (of these, how many conclude something else)``, changed_share``.
    """
    known = rows[rows["estimate"].notna()]
    tried = {name: [one for one in labels if (known[name] == one).any()] for name, labels in choices.items()}
    shares = share_variance(known["estimate"].to_numpy(dtype=float), {name: known[name] for name in choices})
    out = []
    for name, labels in tried.items():
        means = known.groupby(name, observed=True)["estimate"].mean()
        pairs, changed = count_changes(known, name, list(choices))
        out.append(
            {
                "dimension": name,
                "choices": len(labels),
                "spread": float(means.max() - means.min()) if len(means) else np.nan,
                "share": shares[name],
                "pairs": pairs,
                "changed": changed,
                "changed_share": changed / pairs if pairs else np.nan,
            }
        )
    out.append({"dimension": TOGETHER, "share": shares[TOGETHER]})
    return pd.DataFrame(out).astype({"choices": "Int64", "pairs": "Int64", "changed": "Int64"})


def share_variance(values: Array, factors: Mapping[str, pd.Series[Any]]) -> dict[str, float]:
    """Split the variance of estimates over the choices that made them.

    Parameters
    ----------
    values
        Estimates, ``(n,)``.
    factors
        Dimension -> the choice of each estimate.

    Returns
    -------
    dict
        Of each dimension, its share of the sum of squares about the mean, and under `TOGETHER` what all of them leave:
        what choices do in combination.  A dimension's sum of squares is what the residual one grows by where the
        dimension is left out of a model of all main effects (type II).  On a whole grid that is the sum of squares
        between the means of its choices, and shares add to 1; where specifications failed, dimensions overlap, and they
        need not.  All 0 where estimates are alike.
    """
    total = float(np.sum((values - values.mean()) ** 2)) if len(values) else 0.0
    if not total > _SAME * float(np.sum(values**2)):
        return dict.fromkeys([*factors, TOGETHER], 0.0)
    columns = {name: _dummies(codes) for name, codes in factors.items()}
    left = _residual(values, list(columns.values()))
    shares = {
        name: max(_residual(values, [one for other, one in columns.items() if other != name]) - left, 0.0) / total
        for name in columns
    }
    return shares | {TOGETHER: left / total}


def count_changes(known: pd.DataFrame, dimension: str, dimensions: Sequence[str]) -> tuple[int, int]:
    """Count the pairs of specifications that differ in one dimension alone, and those that conclude something else.

    Parameters
    ----------
    known
        Specifications with an estimate: a column a dimension, and ``conclusion``.
    dimension, dimensions
        The one, and all of them.
    """
    if not len(known):
        return 0, 0
    others = [name for name in dimensions if name != dimension]
    codes = known.assign(said=known["conclusion"].map({word: float(i) for i, word in enumerate(CONCLUSIONS)}))
    wide = codes.pivot_table(values="said", index=others, columns=dimension, aggfunc="first", observed=True)
    table = wide.to_numpy(dtype=float)
    pairs = changed = 0
    for a in range(table.shape[1]):
        for b in range(a):
            both = ~np.isnan(table[:, a]) & ~np.isnan(table[:, b])
            pairs += int(both.sum())
            changed += int((both & (table[:, a] != table[:, b])).sum())
    return pairs, changed


def _dummies(codes: pd.Series[Any]) -> Array:
    """Return a column a choice but one."""
    levels = list(dict.fromkeys(codes))
    return np.column_stack([np.zeros(len(codes)), *((codes == level).to_numpy(dtype=float) for level in levels[1:])])


def _residual(values: Array, columns: Sequence[Array]) -> float:
    """Return the sum of squares that columns and a constant leave."""
    design = np.column_stack([np.ones(len(values)), *columns])
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(np.sum((values - fitted) ** 2))
