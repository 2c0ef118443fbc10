"""Sentences, figures and sections on features: what is said at every verdict, and that all of it renders."""

import re

import numpy as np
import pandas as pd
import pytest
from feature_trials import FORMULA, answer, features_of

from psychostats import feature_panels as panels
from psychostats.document import BulletList, Document, Figure, Heading, Paragraph, Table
from psychostats.errors import InputError
from psychostats.feature_section import feature_blocks, tabulate_shares
from psychostats.feature_sentences import (
    say_balance,
    say_complexity,
    say_distribution,
    say_shares,
    say_slope,
    say_slopes_differ,
)
from psychostats.feature_study import draw_feature_figures, study_features
from psychostats.figures import save_figure
from psychostats.fit import fit
from psychostats.rendering import render_html

BASES = ("local", "distributed")


def plain(words):
    text = words if isinstance(words, str) else "".join(getattr(run, "text", "") for run in words)
    return text.replace("\u00a0", " ")


def row(estimate, half=0.02, **others):
    usual = {"conf_level": 0.95, "interval": "eti", "rope_share": np.nan, "trials": 100}
    return usual | {"estimate": estimate, "conf_low": estimate - half, "conf_high": estimate + half} | others


def complexity(before, adjusted, matched):
    rows = {"unadjusted": before, "adjusted": adjusted, "matched": matched | {"trials": 60}}
    return " ".join(map(plain, say_complexity(rows, BASES, ["entropy", "edge density"])))


def test_what_remains_is_a_share_of_a_difference_that_is_there():
    said = complexity(row(0.10), row(0.08), row(0.09))
    assert "distributed − local is +10.0 [+8.0, +12.0] percentage points" in said
    assert "adjusted for entropy and edge density it is +8.0 [+6.0, +10.0]" in said
    assert "on matched stimuli (60 of 100 trials) it is +9.0" in said
    assert "80 % remains after adjustment and 90 % remains on matched stimuli" in said
    assert "same answers" in said and "accounts for" not in said and "explain" not in said


def test_an_open_difference_has_no_share():
    said = complexity(row(0.01), row(0.0), row(0.01))
    assert "no clear difference to be accounted for" in said and "remains" not in said


def test_overlapping_intervals_account_for_nothing_and_an_open_rest_is_not_none():
    said = complexity(row(0.05, 0.04), row(0.01, 0.04), row(0.03, 0.04))
    assert said.count("includes zero: whether a difference is left is open") == 2
    assert "accounts for part" not in said and "explain" not in said
    apart = complexity(row(0.20), row(0.05), row(-0.05))
    assert apart.count("complexity accounts for part of the difference") == 2
    assert "The difference on matched stimuli has the opposite sign." in apart and "none remains" in apart


@pytest.mark.parametrize(
    ("estimate", "half", "rope", "words"),
    [
        (
            0.5,
            0.2,
            np.nan,
            "Among local features, those with more contribution are more interpretable: 0.50 [0.30, 0.70]",
        ),
        (-0.5, 0.2, np.nan, "those with more contribution are less interpretable"),
        (0.1, 0.2, np.nan, "Whether contribution predicts interpretability among local features remains open"),
        (0.0, 0.1, 0.99, "interpretability practically does not change with contribution"),
    ],
)
def test_slopes_at_every_verdict(estimate, half, rope, words):
    assert words in plain(say_slope(row(0.04), row(estimate, half, rope_share=rope), "local", "contribution"))


def test_slopes_that_differ():
    assert "is steeper for distributed than for local" in plain(say_slopes_differ(row(0.5), BASES, "contribution"))
    assert "is less steep for" in plain(say_slopes_differ(row(-0.5), BASES, "contribution"))
    assert "that remains open (0.10 [−0.10, 0.30]" in plain(say_slopes_differ(row(0.1, 0.2), BASES, "contribution"))


def test_shares_and_distributions_are_counted():
    shares = [row(p, representation=name, target="studied") for p, name in zip((0.5, 0.8), BASES, strict=True)]
    said = plain(say_shares(shares, row(0.3, target="studied"), "representation", 0.75))
    assert "a larger share of distributed than of local features is above 75.0 %: 80.0 % [78.0 %, 82.0 %]" in said
    said = plain(say_shares(shares, row(0.01, target="new"), "representation", 0.75))
    assert said.startswith("For new features at the same depths, whether the shares of distributed and local")
    low, high = [0.5, 0.6, 0.8, 0.9], [0.7, 0.8, 0.9, 1.0]
    table = pd.DataFrame({"representation": "local", "threshold": 0.75, "conf_low": low, "conf_high": high})
    said = plain(say_distribution(table.assign(estimate=[0.6, 0.7, 0.85, 0.95]), "local", "representation"))
    assert (
        "of 4 features" in said and "The interval of 2 lies above 75.0 %, that of 1 below it; 1 are undecided" in said
    )


def test_imbalance_that_cancels_over_layers_is_said():
    smd = [0.0, 0.5, -0.5, 0.01, 0.1, -0.1]
    table = pd.DataFrame({"sample": ["all"] * 3 + ["matched"] * 3, "layer": [None, "a", "b"] * 2, "smd": smd})
    said = plain(say_balance(table, "layer", 0.1))
    assert "is 0.00, on matched ones 0.01" in said and "difference is 0.50, on matched stimuli 0.10" in said


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(4)
    features = features_of(24, rng).assign(experiment="one")
    features["contribution_subtract"] = np.exp(rng.standard_normal(48))
    trials = answer(features, rng, people=60)
    names = sorted(trials["stimulus"].unique())
    for name in ("entropy", "edge_density"):
        trials[name] = trials["stimulus"].map(dict(zip(names, rng.standard_normal(len(names)), strict=True)))
    return study_features(fit(FORMULA, trials, family="afc", engine="laplace"), trials, extremes=3)


def test_the_whole_section_renders_with_every_part_and_room_for_images(study, tmp_path):
    figures = {name: save_figure(plot, tmp_path / name) for name, plot in draw_feature_figures(study).items()}
    assert set(figures) == {"features", "shares", "contribution_subtract", "balance"}
    blocks = feature_blocks(study, figures, images=[Paragraph("THE IMAGES")])
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    assert headings == [
        "Features, one by one",
        "Does contribution predict interpretability?",
        "Is it stimulus complexity?",
    ]
    kinds = [getattr(block, "anchor", "") for block in blocks if isinstance(block, Figure | Table)]
    assert len(set(kinds)) == len(kinds) == 9
    page = render_html(Document("Features", tuple(blocks)), tmp_path / "page.html").read_text("utf-8")
    assert page.index("The best and the worst features") < page.index("THE IMAGES") < page.rindex("Does contribution")
    assert "normal approximation" in page and "nan" not in re.sub(r"base64,[^\"]*", "", page).lower().split()
    assert "contribution_reconstruct, so it was not asked" in " ".join(
        plain(item) for block in blocks if isinstance(block, BulletList) for item in block.items
    )


def test_the_table_of_shares_has_a_column_a_basis(study):
    table = tabulate_shares(study)
    assert [column.header for column in table.columns][-3:] == ["local", "distributed", "distributed − local"]
    assert len(table.frame) == 8 and not table.frame.isna().any().any()
    first = study.shares.iloc[0]
    assert table.frame["local"].iloc[0].startswith(f"{100 * first['estimate']:.1f} [")
    assert study.ranked.groupby(["representation", "end"], observed=True).size().tolist() == [3] * 4


def table(n=80, bases=BASES):
    rng = np.random.default_rng(1)
    mean = rng.uniform(0.5, 1.0, n * len(bases))
    return pd.DataFrame(
        {
            "basis": pd.Categorical(np.repeat(bases, n), bases),
            "raw": mean,
            "estimate": mean,
            "conf_low": mean - 0.05,
            "conf_high": mean + 0.05,
            "z": rng.standard_normal(len(mean)),
        }
    )


def test_features_stand_in_order_the_best_first_and_are_counted():
    given = table()
    plot = panels.plot_features(given, factor="basis", interval_label="95 % LABEL", threshold=0.75)
    data = plot.data
    for level, part in data.groupby("level", observed=True):
        assert part.sort_values("rank")["estimate"].is_monotonic_decreasing
        over = int((given.loc[given["basis"] == level, "estimate"] > 0.75).sum())
        assert part["panel"].iloc[0] == f"{level}: {over} of 80 estimates above 0.75"
    assert "95 % LABEL" in plot.labels.caption.replace("\n", " ")


def test_every_figure_says_what_its_bars_are_and_draws_the_awkward_case():
    odd = table(1, ("a\\$b", "an uncommonly long name of a basis", "c")).assign(conf_low=np.nan)
    line = table(3).assign(value=[-1.0, 0.0, 1.0] * 2)
    share = pd.DataFrame({"basis": BASES, "contrast": None, "target": "studied", **row(0.5)}, index=[0, 1])
    plots = [
        panels.plot_features(odd, factor="basis", interval_label="LABEL", threshold=0.75, chance=None),
        panels.plot_along(
            table(3), line, factor="basis", covariate="z", x_label="z", interval_label="LABEL", line_label="RIBBON"
        ),
        panels.plot_shares(share, factor="basis", by=None, threshold=0.75, interval_label="LABEL"),
    ]
    for plot in plots:
        assert "LABEL" in plot.labels.caption
        plot.draw()
    balance = pd.DataFrame({"covariate": ["x", "y"], "sample": ["all", "matched"], "smd": [0.2, 0.0]})
    love = panels.plot_balance(balance, by=None, contrast="b − a", limit=0.1)
    love.draw()
    assert "No bars" in love.labels.caption.replace("\n", " ") and "±0.1" in love.labels.caption
    with pytest.raises(InputError, match="'features' to draw lacks the column 'raw'"):
        panels.plot_features(odd.drop(columns="raw"), factor="basis", interval_label="x", threshold=0.75)
