"""A fit: what is written is what is read, which rows it sees, and what it says of itself."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from psychostats import nuts
from psychostats.columns import order_levels
from psychostats.design import code
from psychostats.engines import TARGET_ACCEPT, TUNE
from psychostats.errors import FitError, InputError
from psychostats.fit import Fit, load_fit, plain, select_rows
from psychostats.intervals import Interval
from psychostats.spec import specify
from psychostats.timing import Stopwatch

Trials = Callable[[str], pd.DataFrame]
Model = Callable[[str], dict[str, Any]]
Fitted = Callable[[str], Fit]

FILES = {"spec.toml", "summary.csv", "draws.nc", "provenance.json", "timings.json"}


# --- Reading what was written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["afc", "crossed", "nested", "uncorrelated", "counts", "three_terms"])
def test_a_loaded_fit_is_the_fit(name: str, fitted: Fitted) -> None:
    made = fitted(name)
    assert made.path is not None
    assert {path.name for path in made.path.iterdir()} == FILES
    again = load_fit(made.path)
    assert again.spec == made.spec and again.settings == made.settings
    assert again.priors == made.priors and again.checks == made.checks
    assert again.provenance == made.provenance and again.timings == made.timings
    assert again.coding.levels == made.coding.levels and again.coding.ranges == made.coding.ranges
    assert not made.reused and not again.reused
    pd.testing.assert_frame_equal(again.data, made.data)
    pd.testing.assert_frame_equal(again.terms(random=True), made.terms(random=True), check_exact=True)
    np.testing.assert_array_equal(again.design.X, made.design.X)
    ours, theirs = made.parameters(), again.parameters()
    np.testing.assert_array_equal(ours.b, theirs.b)
    for x, y in zip((*ours.covariance, *ours.r), (*theirs.covariance, *theirs.r), strict=True):
        np.testing.assert_array_equal(x, y)
    assert again.summary(random=True) == made.summary(random=True)


@pytest.mark.parametrize("name", ["afc", "crossed", "nested", "uncorrelated", "counts", "three_terms"])
def test_every_class_of_model_converges(name: str, fitted: Fitted) -> None:
    made = fitted(name)
    assert made.converged, made.warnings


def test_summary_csv_holds_the_terms_in_full(fitted: Fitted) -> None:
    made = fitted("afc")
    assert made.path is not None
    table = pd.read_csv(made.path / "summary.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(table, made.terms(), check_exact=True, check_dtype=False)
    assert table["term"].tolist()[:2] == ["b_Intercept", "b_representationdistributed"]
    assert "cor_participant__Intercept__representationdistributed" in set(table["term"])


def test_names_of_nested_levels_are_kept(fitted: Fitted) -> None:
    made = fitted("nested")
    assert made.path is not None
    terms = load_fit(made.path).terms(random=True)["term"].tolist()
    assert "sd_batch:cask__Intercept" in terms and "r_batch:cask[B:d,Intercept]" in terms
    assert made.summary()["fit"]["groups"] == {"batch": 10, "batch:cask": 40}


def test_declared_orders_survive(fitted: Fitted) -> None:
    made = fitted("uncorrelated")
    assert made.path is not None
    again = load_fit(made.path)
    assert again.coding.levels == {"condition": ("medium", "easy", "hard")}
    assert again.data["condition"].cat.categories.tolist() == ["medium", "easy", "hard"]
    assert again.design.names == ("Intercept", "conditioneasy", "conditionhard")


@pytest.mark.parametrize("kind", ["integers", "declared integers", "booleans", "objects", "nullable", "single floats"])
def test_columns_of_any_type_come_back_as_they_were(
    kind: str, quick: Callable[..., Fit], trials: Trials, tmp_path: Path
) -> None:
    frame = trials("counts")
    number = frame["observer"].str[1:].astype(int)
    frame["observer"], predictor = {
        "integers": (number, frame["contrast"]),
        "declared integers": (pd.Categorical(number, categories=range(10, 0, -1)), frame["contrast"]),
        "booleans": (frame["observer"], frame["contrast"] > 0),
        "objects": (number.astype(object), frame["contrast"] > 0),
        "nullable": (number.astype("Int64"), (frame["contrast"] > 0).astype("boolean")),
        "single floats": (number, frame["contrast"].astype("float32")),
    }[kind]
    frame["contrast"] = predictor
    made = quick(trials=frame, out=tmp_path / "fit")
    again = load_fit(tmp_path / "fit")
    assert again.design.names == made.design.names
    assert again.design.blocks[0].levels == made.design.blocks[0].levels
    np.testing.assert_array_equal(again.design.X, made.design.X)
    assert again.terms(random=True).equals(made.terms(random=True))
    np.testing.assert_array_equal(again.parameters().r[0], made.parameters().r[0])
    assert quick(trials=frame, out=tmp_path / "fit").reused


def test_a_fit_in_memory_says_the_same_as_on_disk(quick: Callable[..., Fit], tmp_path: Path) -> None:
    loose, kept = quick(), quick(out=tmp_path / "a" / "b" / "fit")
    assert loose.path is None and kept.path == tmp_path / "a" / "b" / "fit"
    assert loose.summary()["fit"]["path"] is None
    assert loose.summary()["terms"] == kept.summary()["terms"]
    assert loose.write(tmp_path / "later").provenance == kept.provenance


# --- Bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"formula": "cbind(right, wrong) ~ contrst + (1 | observer)"}, "did you mean 'contrast'"),
        ({"engine": "pymcc"}, "did you mean 'pymc'"),
        ({"family": "bernoulli"}, "models counts"),
        ({"priors": ["b_contrst ~ normal(0, 1)"]}, "did you mean 'b_contrast'"),
        ({"missing": "ignore"}, "allowed are error and drop"),
        ({"formula": "right ~ contrast + (1 | observer)", "family": "bernoulli"}, "allowed are 0 and 1"),
        ({"draws": 0}, "draws is 0"),
    ],
)
def test_bad_input_writes_nothing(
    changed: dict[str, Any], words: str, quick: Callable[..., Fit], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        quick(**changed, out=tmp_path / "fit")
    assert list(tmp_path.iterdir()) == []


# --- Rows -------------------------------------------------------------------------------------------------------------


def test_rows_with_missing_values_are_refused_or_dropped_and_counted(
    quick: Callable[..., Fit], trials: Trials, tmp_path: Path
) -> None:
    frame = trials("counts")
    frame["unused"] = np.nan
    holes = frame.astype({"right": float})
    holes.loc[[3, 11], "contrast"] = np.nan
    holes.loc[[11, 20], "observer"] = None
    holes.loc[30, "right"] = np.nan
    with pytest.raises(
        InputError,
        match=r"^4 rows lack a finite value .*: 'right' is missing in row 30, "
        r"'contrast' is missing in 2 rows, the first row 3, 'observer' is missing in 2 rows, the first row 11; .*"
        r"--missing drop",
    ):
        quick(trials=holes)
    made = quick(trials=holes, missing="drop", out=tmp_path / "fit")
    assert len(made.data) == 56 and made.summary()["fit"]["n_dropped"] == 4
    whole = frame.drop(index=[3, 11, 20, 30])
    assert made.summary()["fit"]["n_trials"] == int(whole["right"].sum() + whole["wrong"].sum())
    np.testing.assert_array_equal(made.parameters().b, quick(trials=whole).parameters().b)
    assert quick(trials=holes, missing="drop", out=tmp_path / "fit").reused


def test_dropped_rows_take_their_levels_along(trials: Trials) -> None:
    frame = trials("uncorrelated").astype({"correct": float})
    frame.loc[frame["condition"] == "easy", "correct"] = np.nan
    rows, dropped = select_rows(specify("correct ~ condition + (1 | participant)"), frame, "drop")
    assert dropped == 160
    assert rows["condition"].cat.categories.tolist() == ["medium", "hard"]


def test_the_data_hash_follows_every_value_the_model_sees(quick: Callable[..., Fit], trials: Trials) -> None:
    frame = trials("counts")
    sha = quick().provenance["data"]["sha256"]
    assert quick(trials=frame.assign(unused="x")).provenance["data"]["sha256"] == sha
    moved = frame.copy()
    moved.loc[5, "contrast"] += 1e-12
    assert quick(trials=moved).provenance["data"]["sha256"] != sha


# --- What is said -----------------------------------------------------------------------------------------------------


def test_provenance_and_timings(fitted: Fitted, trials: Trials) -> None:
    made = fitted("afc")
    assert made.path is not None
    provenance = json.loads((made.path / "provenance.json").read_text())
    assert provenance == made.provenance
    assert provenance["schema"] == "psychostats-fit/1" and provenance["converged"] is True
    fast = nuts.available()
    assert provenance["engine"] == ("nuts" if fast else "pymc") and provenance["engine_reason"].startswith("auto: ")
    assert (provenance["data"]["rows"], provenance["data"]["dropped"]) == (480, 0)
    assert provenance["data"]["columns"] == ["correct", "representation", "depth", "participant", "pair"]
    assert provenance["data"]["levels"] == {"representation": ["local", "distributed"]}
    assert set(provenance["files"]) == {"spec.toml", "summary.csv", "draws.nc"}
    # Of what can change a number, so that another PyMC makes no other fit where it does not sample.
    assert {"psychostats", "numpy", "python"} <= set(provenance["versions"])
    assert ("pymc" in provenance["versions"]) is ("nutpie" in provenance["versions"]) is not fast
    assert {row["class"] for row in provenance["priors"]} == {"b", "sd", "cor"}
    timings = json.loads((made.path / "timings.json").read_text())
    assert set(timings) == {"start" if fast else "compile", "sample", "summarise"} and min(timings.values()) >= 0


def test_where_the_trials_came_from_is_remembered(quick: Callable[..., Fit], tmp_path: Path) -> None:
    made = quick(source={"file": "trials.csv", "file_sha256": "ab"}, out=tmp_path / "fit")
    assert load_fit(tmp_path / "fit").provenance["data"]["file"] == "trials.csv"
    assert made.provenance["data"]["file_sha256"] == "ab"


def test_spec_toml_is_the_model(fitted: Fitted) -> None:
    made = fitted("counts")
    assert made.path is not None
    assert tomllib.loads((made.path / "spec.toml").read_text()) == {
        "formula": "cbind(right, wrong) ~ contrast + (1 | observer)",
        "family": "binomial",
        "link": "probit",
        "guess": 0.0,
        "lapse": 0.0,
        "priors": [],
        "sampling": {
            "draws": 4000,
            "tune": TUNE[made.provenance["engine"]],
            "chains": 4,
            "seed": 1,
            "target_accept": TARGET_ACCEPT[made.provenance["engine"]],
        },
    }


def shape(value: Any) -> Any:
    """Return the keys and types of nested values, of a list those of its first item."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value)


@pytest.mark.parametrize("random", [False, True])
def test_the_summary_has_exactly_the_keys_of_the_contract(random: bool, fitted: Fitted) -> None:
    summary = fitted("afc").summary(random=random)
    found = json.loads(json.dumps(summary, allow_nan=False))
    assert found == summary
    nothing = type(None)
    check = {"name": str, "term": str, "value": float, "limit": float, "verdict": str}
    prior = {"class": str, "group": nothing, "coef": str, "prior": str, "source": str}
    numbers = ("estimate", "sd", "conf_low", "conf_high", "conf_level", "rhat", "ess_bulk", "ess_tail")
    assert shape(found) == {
        "schema": str,
        "fit": {
            "path": str,
            "engine": str,
            "engine_reason": str,
            "formula": str,
            "family": str,
            "link": str,
            "guess": float,
            "lapse": float,
            "n_trials": int,
            "n_dropped": int,
            "groups": {"participant": int, "pair": int},
            "levels": {"representation": [str]},
            "coding": {"representation": str},
            "covariance": [{"group": str, "terms": [str], "structure": str}],
        },
        "interval": {"kind": str, "probability": float, "label": str},
        "sampler": dict.fromkeys(("chains", "draws", "tune", "seed", "divergences", "treedepth_hits"), int),
        "likelihood": dict.fromkeys(
            ("logLik", "df", "nobs", "AIC", "BIC", "REML", "singular", "singular_terms"), nothing
        ),
        "converged": bool,
        "checks": [check],
        "priors": [prior],
        "terms": [{"term": str, "group": nothing, "class": str, "interval": str} | dict.fromkeys(numbers, float)],
        "warnings": [],
    }
    assert (max(row["class"] == "r" for row in found["terms"])) is random
    assert {row["group"] for row in found["terms"]} == {None, "participant", "pair"}
    assert found["fit"]["coding"] == {"representation": "treatment, reference local"}
    assert found["fit"]["covariance"][0] == {
        "group": "participant",
        "terms": ["Intercept", "representationdistributed"],
        "structure": "correlated",
    }
    assert found["interval"]["label"] == "95 % equal-tailed credible interval"


def test_structures_of_covariance_are_said(fitted: Fitted) -> None:
    assert [row["structure"] for row in fitted("uncorrelated").covariance()] == ["independent"]
    assert [row["structure"] for row in fitted("crossed").covariance()] == ["single", "single"]
    assert [row["structure"] for row in fitted("three_terms").covariance()] == ["correlated"]


def test_a_fit_that_has_not_converged_is_written_and_says_so(quick: Callable[..., Fit], tmp_path: Path) -> None:
    made = quick(out=tmp_path / "fit", chains=1)  # one chain has no R-hat
    summary = json.loads(json.dumps(made.summary(), allow_nan=False))
    assert summary["converged"] is False and summary["warnings"]
    assert summary["checks"][0]["value"] is None and summary["checks"][0]["verdict"] == "fail"
    assert json.loads((tmp_path / "fit" / "provenance.json").read_text())["converged"] is False


def test_terms_take_another_interval(fitted: Fitted) -> None:
    hdi = fitted("counts").terms(interval=Interval("hdi", 0.5))
    assert set(hdi["interval"]) == {"hdi"} and set(hdi["conf_level"]) == {0.5}
    wide = fitted("counts").terms()
    assert (hdi["conf_low"] > wide["conf_low"]).all() and (hdi["conf_high"] < wide["conf_high"]).all()


def test_a_spec_is_as_good_as_its_words(quick: Callable[..., Fit], model: Model) -> None:
    words = model("counts")
    spec = specify(words.pop("formula"), **words, priors=["b ~ normal(0, 2)"])
    made = quick(formula=spec)
    assert made.provenance["key"] == quick(priors=["b  ~ normal(0, 2)"]).provenance["key"]
    assert {prior.source for prior in made.priors} == {"default", "b ~ normal(0, 2)"}


def test_plain_values_hold_no_numpy_and_no_nan() -> None:
    value = {1: np.float64(0.5), "b": [np.int64(2), np.nan, (np.bool_(True), -np.inf)], "c": None, "d": "text"}
    assert plain(value) == {"1": 0.5, "b": [2, None, [True, None]], "c": None, "d": "text"}
    assert shape(plain(value)["b"][2][0]) is bool


def test_stopwatch_adds_up_stages() -> None:
    watch = Stopwatch()
    watch.start("a")
    time.sleep(0.02)
    watch.start("b")
    with watch.time("a"):
        time.sleep(0.02)
    seconds = watch.stop()
    assert list(seconds) == ["a", "b"]
    assert 0.04 <= seconds["a"] < 0.5 and 0 <= seconds["b"] < 0.02
    assert watch.stop() == seconds


def test_levels_of_a_plain_table_have_their_declared_order(quick, trials):
    frame = trials("crossed").astype({"representation": str}).assign(right=1, wrong=0)
    frame["layer"] = frame["depth"].rank(method="dense").map("L{:g}".format)
    rows, _ = select_rows(specify("right ~ representation"), order_levels(frame))
    assert rows["representation"].cat.categories.tolist() == ["local", "distributed"]
    assert (
        code(specify("correct ~ representation").formula, order_levels(frame)).names[1] == "representationdistributed"
    )


def test_rows_that_were_dropped_make_another_fit(quick, trials, tmp_path):
    frame = trials("counts")
    incomplete = pd.concat([frame, frame.iloc[:2].assign(contrast=np.nan)], ignore_index=True)
    first = quick(trials=frame, out=tmp_path / "fit")
    with pytest.raises(FitError, match="another fit"):
        quick(trials=incomplete, missing="drop", out=tmp_path / "fit")
    second = quick(trials=incomplete, missing="drop", out=tmp_path / "other")
    assert (first.summary()["fit"]["n_dropped"], second.summary()["fit"]["n_dropped"]) == (0, 2)


def test_a_fit_prints_in_one_line(quick):
    made = quick()
    assert repr(made).startswith("Fit('cbind(right, wrong) ~ contrast + (1 | observer)', binomial, probit link, ")
    assert "\n" not in repr(made) and len(repr(made)) < 200


def test_sampling_is_announced_only_where_it_happens(quick, tmp_path):
    said = []
    for _ in range(2):
        quick(out=tmp_path / "fit", on_start=lambda engine, reason: said.append("begins"))
    assert said == ["begins"]


def test_names_and_levels_that_no_file_holds_are_refused_before_sampling(quick, trials):
    frame = trials("counts")
    begun = []
    with pytest.raises(InputError, match="cannot be stored under this name"):
        quick(
            trials=frame.assign(**{".": frame["contrast"]}),
            formula="cbind(right, wrong) ~ `.` + (1 | observer)",
            on_start=lambda engine, reason: begun.append("sampling"),
        )
    with pytest.raises(InputError, match="NUL character"):
        nul = frame.assign(observer=frame["observer"].astype(str) + "\0")
        quick(trials=nul, on_start=lambda engine, reason: begun.append("sampling"))
    assert begun == []
