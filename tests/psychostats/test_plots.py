"""Every figure draws, in the plain and the awkward case, without a warning, and says what its bars are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotnine as p9
import pytest

from psychostats import diagnostics, plots
from psychostats.errors import InputError
from psychostats.figures import PALETTE
from psychostats.intervals import Interval, Rope

LABEL = Interval("hdi", 0.9).label
LIMITS = {"rhat": 1.01, "ess_bulk": 400, "ess_tail": 400}
LONG = [
    "local",
    "distributed",
    "sparse autoencoder of the widest layer",
    r"$\bad{$ 日本",
    "an_unbroken_name_of_forty_letters",
]

PLAIN: dict[str, Any] = {"experiments": ["natural", "semantic", "mixed"], "levels": ["local", "distributed"]}
AWKWARD: dict[str, Any] = {"experiments": ["only"], "levels": LONG, "participants": 1, "intervals": False}


def tables(
    experiments: list[str],
    levels: list[str],
    participants: int = 5,
    intervals: bool = True,
    places: Any = (0.0, 0.5, 1.0),
) -> dict[str, pd.DataFrame]:
    """Small tables of every kind; `intervals` False leaves their bounds out."""
    rng = np.random.default_rng(1)

    def bounded(rows: list[dict[str, Any]], estimate: str = "estimate") -> pd.DataFrame:
        frame = pd.DataFrame(rows)
        frame[estimate] = rng.uniform(0.55, 0.95, len(frame))
        width = 0.05 if intervals else np.nan
        return frame.assign(conf_low=frame[estimate] - width, conf_high=frame[estimate] + width)

    def cross(**columns: Any) -> list[dict[str, Any]]:
        index = pd.MultiIndex.from_product(list(columns.values()), names=list(columns))
        return index.to_frame(index=False).to_dict("records")

    units, people = {"experiment": experiments, "basis": levels}, [f"p{i}" for i in range(participants)]
    names = ["sd_participant__Intercept", "sd_participant__basisx", "cor_participant__Intercept__basisx", "b_basisx"]
    terms = bounded(cross(experiment=experiments, term=names)).assign(group="participant", rhat=1.001, ess_tail=500.0)
    draws = pd.DataFrame(cross(experiment=experiments, term=["b_Intercept", "b_x"], chain=[1, 2], draw=range(100)))
    return {
        "participants": pd.DataFrame(cross(**units, participant=people)).assign(n=27, accuracy=0.7),
        "summary": bounded(cross(**units)),
        "raw": pd.DataFrame(cross(**units, place=places)).assign(n=30, accuracy=0.8),
        "fitted": bounded(cross(**units, place=places, target=["population", "typical"])),
        "effects": bounded(cross(experiment=experiments, label=levels, target=["population", "typical"])),
        "terms": terms.assign(ess_bulk=np.linspace(350, 2000, len(terms))),
        "check": bounded(cross(**units, place=places), "observed"),
        "people": bounded(cross(experiment=experiments, participant=people), "observed"),
        "prior": pd.DataFrame(cross(basis=levels, draw=range(50))).assign(
            accuracy=lambda d: rng.uniform(0.5, 1, len(d))
        ),
        "draws": draws.assign(value=rng.normal(size=len(draws))),
    }


FIGURES: dict[str, Callable[[dict[str, pd.DataFrame]], p9.ggplot]] = {
    "accuracy": lambda t: plots.plot_accuracy(t["participants"], t["summary"], factor="basis", interval_label=LABEL),
    "depth": lambda t: plots.plot_accuracy_by_depth(
        t["raw"], t["fitted"], factor="basis", by="place", interval_label=LABEL
    ),
    "contrasts": lambda t: plots.plot_contrasts(
        t["effects"], rope=Rope(-0.02, 0.02), x_label="Difference", interval_label=LABEL
    ),
    "terms": lambda t: plots.plot_terms(t["terms"], interval_label=LABEL),
    "predictive": lambda t: plots.plot_predictive_accuracy(
        t["check"], factor="basis", by="place", interval_label=LABEL
    ),
    "people": lambda t: plots.plot_predictive_groups(t["people"], group="participant", interval_label=LABEL),
    "prior": lambda t: plots.plot_prior_predictive(t["prior"], factor="basis"),
    "convergence": lambda t: diagnostics.plot_convergence(t["terms"], limits=LIMITS),
    "ranks": lambda t: diagnostics.plot_ranks(t["draws"]),
}
WITH_BARS = ["accuracy", "depth", "contrasts", "terms", "predictive", "people"]


def drawn(plot: p9.ggplot, geom: str) -> list[pd.DataFrame]:
    """Data as drawn by each layer of one geom."""
    plot.draw(show=False).clear()
    return [layer.data for layer in plot.layers if type(layer.geom).__name__ == f"geom_{geom}"]


@pytest.mark.parametrize("case", [PLAIN, AWKWARD], ids=["plain", "awkward"])
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_without_a_warning(name: str, case: dict[str, Any], tmp_path: Path) -> None:
    path = plots.save_figure(FIGURES[name](tables(**case)), tmp_path / name)
    assert path.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    "places", [[f"layer{i}.0.conv2" for i in range(22)], ["only"], [0.5]], ids=["22", "1", "1 depth"]
)
def test_many_layers_and_one_layer_draw(places: list[Any], tmp_path: Path) -> None:
    data = tables(**PLAIN, places=places)
    for name in ("depth", "predictive"):
        plots.save_figure(FIGURES[name](data), tmp_path / name)


@pytest.mark.parametrize("name", WITH_BARS)
def test_every_figure_with_bars_says_what_they_are(name: str) -> None:
    assert LABEL in FIGURES[name](tables(**PLAIN)).labels.caption.replace("\n", " ")


@pytest.mark.parametrize("name", FIGURES)
def test_no_figure_changes_its_tables(name: str) -> None:
    data, untouched = tables(**PLAIN), tables(**PLAIN)
    FIGURES[name](data)
    for key, frame in data.items():
        pd.testing.assert_frame_equal(frame, untouched[key])


def test_the_name_of_a_column_is_never_run() -> None:
    factor = "__import__('sys').exit(3)"
    data = tables(**PLAIN)
    people, summary = (data[key].rename(columns={"basis": factor}) for key in ("participants", "summary"))
    plots.plot_accuracy(people, summary, factor=factor, interval_label=LABEL).draw(show=False).clear()


def test_a_level_keeps_its_colour_whatever_the_order_of_rows() -> None:
    data = tables(**PLAIN)
    declared = pd.CategoricalDtype(["local", "distributed"], ordered=True)
    for frame in (data["participants"], data["summary"]):
        frame["basis"] = frame["basis"].astype(declared)
    for order in (slice(None), slice(None, None, -1)):
        people, summary = (data[key].iloc[order].reset_index(drop=True) for key in ("participants", "summary"))
        plot = plots.plot_accuracy(people, summary, factor="basis", interval_label=LABEL)
        points = drawn(plot, "point")[0]
        assert set(points.loc[points["x"].round() == 1, "color"]) == {PALETTE[0]}
        assert set(points.loc[points["x"].round() == 2, "color"]) == {PALETTE[1]}


def test_jitter_moves_points_sideways_only_and_the_same_way_each_time() -> None:
    data = tables(**PLAIN)
    first, second = (drawn(FIGURES["accuracy"](data), "point")[0] for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert set(first["y"]) == {0.7}


def test_a_forest_puts_the_first_contrast_on_top_and_both_targets_beside_it() -> None:
    data = tables(["e"], ["first", "second"])
    rows = drawn(FIGURES["contrasts"](data), "point")[0]
    given = data["effects"].set_index(["label", "target"])["estimate"]
    order = rows.sort_values("y", ascending=False)["x"].tolist()
    expected = [("first", "population"), ("first", "typical"), ("second", "population"), ("second", "typical")]
    assert order == [given[key] for key in expected]


def test_only_standard_deviations_and_correlations_are_terms_to_draw() -> None:
    rows = drawn(FIGURES["terms"](tables(["e"], ["a", "b"])), "point")[0]
    assert len(rows) == 3


def test_what_falls_outside_its_interval_is_counted_and_marked() -> None:
    data = tables(["e"], ["a", "b"])
    for key in ("check", "people"):
        data[key].loc[[0, 2], "observed"] = [0.0, 1.0]
    assert "outside (2 of 6)" in FIGURES["predictive"](data).labels.caption
    people = FIGURES["people"](data)
    assert "outside (2 of 5)" in people.labels.caption
    assert people.data.sort_values("rank")["place"].tolist() == ["outside", "inside", "inside", "inside", "outside"]


def test_failed_terms_are_counted_and_the_worst_is_named() -> None:
    terms = pd.DataFrame(
        {
            "experiment": "e",
            "term": ["good", "poor", "worst"],
            "rhat": [1.0, 1.02, 1.3],
            "ess_bulk": [400.0, 900.0, 399.0],
            "ess_tail": [500.0, 900.0, np.nan],
        }
    )
    plot = diagnostics.plot_convergence(terms, limits=LIMITS)
    assert "3 of 8 values fail" in plot.labels.caption
    assert pd.concat(drawn(plot, "text"))["label"].tolist() == ["worst", "worst"]


def test_ranks_are_flat_for_chains_that_agree_and_not_for_one_that_differs() -> None:
    rng = np.random.default_rng(2)
    n = 2000
    draws = pd.DataFrame({"experiment": "e", "term": "b", "chain": np.repeat([1, 2, 3, 4], n), "draw": 0})
    same = diagnostics.plot_ranks(draws.assign(value=rng.normal(size=4 * n))).data
    shifted = diagnostics.plot_ranks(draws.assign(value=rng.normal(size=4 * n) + 3 * (draws["chain"] == 4))).data
    assert same["share"].between(0.6, 1.4).all()
    top = shifted[(shifted["chain"] == "4") & (shifted["bin"] == 19)]["share"]
    assert (top > 3.9).all()
    # All chains together fill every bin evenly, whatever each does.
    assert shifted.groupby(["bin", "at"])["share"].mean().to_numpy() == pytest.approx(1)


def test_the_prior_difference_is_taken_within_draws() -> None:
    draw = np.repeat(np.arange(100), 2)
    accuracy = 0.5 + draw / 250 + np.tile([0.0, 0.1], 100)
    frame = pd.DataFrame({"basis": np.tile(["a", "b"], 100), "draw": draw, "accuracy": accuracy})
    boxes = plots.plot_prior_predictive(frame.sample(frac=1, random_state=1), factor="basis").data
    difference = boxes[boxes["panel"] == "Difference\nb − a"]
    held = difference[difference["share"] > 0]
    assert held["low"].min() <= 0.1 <= held["high"].max()
    assert held["high"].max() - held["low"].min() < 1.1


def test_a_missing_column_is_named() -> None:
    data = tables(**PLAIN)
    with pytest.raises(InputError, match="'summary' to draw lacks the column 'basis'"):
        plots.plot_accuracy(
            data["participants"], data["summary"].drop(columns="basis"), factor="basis", interval_label=LABEL
        )


def test_each_thing_shown_is_a_faint_point_over_its_own_place():
    """Levels stand beside each other by a hundredth of the range, so that neither hides the other."""
    made = tables(["one"], ["a", "b"])
    items = made["raw"].assign(n=7, accuracy=0.61)
    plot = plots.plot_accuracy_by_depth(
        made["raw"], made["fitted"], factor="basis", by="place", interval_label=LABEL, items=items, item="pair"
    )
    drawn = [one._data for one in plot.layers if isinstance(one._data, pd.DataFrame) and "accuracy" in one._data]
    (faint,) = [data for data in drawn if (data["accuracy"] == 0.61).all()]
    assert len(faint) == len(items)
    assert (faint["at"] - faint["along"]).abs().tolist() == pytest.approx([0.012] * len(items))
    assert set(np.sign(faint["at"] - faint["along"])) == {-1.0, 1.0}
    assert "raw accuracy of each pair" in plot.labels.caption.replace("\n", " ")
