"""Which choices matter: sums of squares by hand, pairs counted by hand, ranks."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from psychostats.multiverse_measures import (
    TOGETHER,
    count_changes,
    measure_choices,
    measure_dimensions,
    share_variance,
    summarise_estimates,
)

CHOICES = {"a": ("a0", "a1"), "b": ("b0", "b1", "b2")}


def grid(values, said=None):
    rows = pd.DataFrame(list(itertools.product(*CHOICES.values())), columns=list(CHOICES))
    values = np.asarray(values, dtype=float)
    said = said or ["open"] * len(values)
    return rows.assign(
        estimate=values,
        conf_low=values - 1,
        conf_high=values + 1,
        conclusion=np.where(np.isnan(values), "", said),
        reason=np.where(np.isnan(values), "no maximum", ""),
        singular="",
        headline=[True, *[False] * (len(values) - 1)],
    )


def test_shares_of_a_whole_grid_are_the_textbooks():
    """Two-way analysis of variance without replication: sums of squares between means, by hand."""
    rows = grid([1.0, 2.0, 6.0, 3.0, 4.0, 2.0])
    # Means of a: 3, 3; of b: 2, 3, 4; the grand mean 3.  SS: a 0, b 2 * (1 + 0 + 1) = 4, in all 4+1+9+0+1+1 = 16.
    found = measure_dimensions(rows, CHOICES).set_index("dimension")
    assert found["share"].to_dict() == pytest.approx({"a": 0.0, "b": 4 / 16, TOGETHER: 12 / 16})
    assert found["spread"].iloc[:2].tolist() == pytest.approx([0.0, 2.0])
    assert found["choices"].iloc[:2].tolist() == [2, 3]


def test_shares_of_an_additive_grid_leave_nothing_and_add_up():
    a, b = np.array([0.0, 2.0]), np.array([0.0, 1.0, 5.0])
    rows = grid((a[:, None] + b).ravel())
    shares = share_variance(rows["estimate"].to_numpy(), {name: rows[name] for name in CHOICES})
    parts = 3 * a.var() * 2, 2 * b.var() * 3
    assert shares == pytest.approx({"a": parts[0] / sum(parts), "b": parts[1] / sum(parts), TOGETHER: 0.0}, abs=1e-12)


def test_where_estimates_are_lacking_a_share_is_what_the_others_cannot_say():
    """Type II by two regressions that NumPy's polynomial-free least squares make from scratch."""
    rows = grid([1.0, 2.0, 6.0, 3.0, np.nan, 2.5])
    known = rows.dropna(subset="estimate")
    y = known["estimate"].to_numpy()
    A = (known["a"] == "a1").to_numpy(float)[:, None]
    B = np.column_stack([(known["b"] == one).to_numpy(float) for one in ("b1", "b2")])

    def rss(*columns):
        design = np.column_stack([np.ones(len(y)), *columns])
        return float(np.sum((y - design @ np.linalg.pinv(design) @ y) ** 2))

    total = rss()
    found = measure_dimensions(rows, CHOICES).set_index("dimension")["share"]
    assert found["a"] == pytest.approx((rss(B) - rss(A, B)) / total)
    assert found["b"] == pytest.approx((rss(A) - rss(A, B)) / total)
    assert found[TOGETHER] == pytest.approx(rss(A, B) / total)


def test_estimates_that_are_alike_have_no_shares():
    rows = grid(np.full(6, 0.3) + 1e-16)
    assert set(measure_dimensions(rows, CHOICES)["share"]) == {0.0}


def test_pairs_are_those_that_differ_in_one_choice_alone():
    said = ["above 0", "above 0", "open", "above 0", "below 0", "open"]
    rows = grid([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], said)
    # a: three pairs, of which b1's changes; b: three pairs in each of two rows, all but (a0: b0, b1) change.
    assert count_changes(rows, "a", list(CHOICES)) == (3, 1)
    assert count_changes(rows, "b", list(CHOICES)) == (6, 5)
    rows.loc[0, ["estimate", "conclusion"]] = [np.nan, ""]
    assert count_changes(rows.dropna(subset="estimate"), "a", list(CHOICES)) == (2, 1)
    assert count_changes(rows[:0], "a", list(CHOICES)) == (0, 0)


def test_the_summary_counts_and_ranks():
    said = ["above 0", "above 0", "open", "below 0", "open", "open"]
    found = summarise_estimates(grid([3.0, 2.0, 1.0, -4.0, np.nan, 3.0], said))
    assert (found["specifications"], found["estimated"], found["failed"]) == (6, 5, 1)
    assert (found["above"], found["open"], found["below"], found["share_above"]) == (2, 2, 1, 0.4)
    assert (found["median"], found["lowest"], found["highest"]) == (2.0, -4.0, 3.0)
    assert found["estimate"] == 3.0 and found["rank"] == 4.5  # two share places 4 and 5
    nothing = summarise_estimates(grid(np.full(6, np.nan)))
    assert nothing["estimated"] == 0 and np.isnan(nothing["rank"]) and nothing["conclusion"] == ""


def test_choices_are_averaged_over_what_they_were_combined_with():
    found = measure_choices(grid([1.0, 2.0, 6.0, np.nan, 4.0, 2.0], ["above 0"] * 6), CHOICES)
    row = found[found["choice"] == "a1"].iloc[0]
    assert (row["mean"], row["lowest"], row["highest"], row["failed"], row["estimated"]) == (3.0, 2.0, 4.0, 1, 2)
    assert found["own"].tolist() == [True, False, True, False, False]
