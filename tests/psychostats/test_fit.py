"""A fit and its directory: what is written is what is read, a fit is answered from its place, nothing else is lost."""

from __future__ import annotations

import json
import re
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from psychostats import store
from psychostats.errors import FitError, InputError
from psychostats.fit import Fit, Stopwatch, fit, load_fit, plain, resolve_engine, select_rows
from psychostats.intervals import Interval
from psychostats.spec import specify

Trials = Callable[[str], pd.DataFrame]
Model = Callable[[str], dict[str, Any]]
Fitted = Callable[[str], Fit]

FILES = {"spec.toml", "summary.csv", "draws.nc", "provenance.json", "timings.json"}
QUICK: dict[str, Any] = {"draws": 40, "tune": 60, "chains": 2, "progress": False}


@pytest.fixture
def quick(trials: Trials, model: Model) -> Callable[..., Fit]:
    """Fit a few draws of the smallest model; arguments change the call."""

    def make(**changed: Any) -> Fit:
        return fit(**({"trials": trials("counts")} | model("counts") | QUICK | changed))

    return make


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


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


def test_two_fits_make_the_same_files(quick: Callable[..., Fit], tmp_path: Path) -> None:
    quick(out=tmp_path / "one")
    quick(out=tmp_path / "two")
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert {name for name in one if one[name] != two[name]} <= {"timings.json"}


# --- Asked again ------------------------------------------------------------------------------------------------------


def test_a_second_identical_call_is_answered_from_the_directory(
    fitted: Fitted, trials: Trials, model: Model, quick: Callable[..., Fit]
) -> None:
    made = fitted("afc")
    assert made.path is not None
    before = {path: path.stat().st_mtime_ns for path in made.path.iterdir()}
    began = time.perf_counter()
    again = fit(trials=trials("afc"), out=made.path, progress=False, **model("afc"))
    assert time.perf_counter() - began < 3.0
    assert again.reused and again.provenance == made.provenance
    assert before == {path: path.stat().st_mtime_ns for path in made.path.iterdir()}


def test_spacing_of_the_formula_and_other_columns_are_no_other_fit(
    quick: Callable[..., Fit], trials: Trials, tmp_path: Path
) -> None:
    quick(out=tmp_path / "fit")
    frame = trials("counts").assign(unused=1)
    assert quick(formula="cbind( right,wrong )~contrast+( 1|observer )", trials=frame, out=str(tmp_path / "fit")).reused


CHANGES: dict[str, Callable[[pd.DataFrame], dict[str, Any]]] = {
    "seed": lambda frame: {"seed": 2},
    "draws": lambda frame: {"draws": 41},
    "target_accept": lambda frame: {"target_accept": 0.9},
    "prior": lambda frame: {"priors": ["b ~ normal(0, 2)"]},
    "lapse": lambda frame: {"lapse": 0.01},
    "one value": lambda frame: {
        "trials": frame.assign(right=frame["right"].where(frame.index != 7, frame["right"] - 1))
    },
    "one name": lambda frame: {"trials": frame.assign(observer=frame["observer"].replace("o03", "o11"))},
    "one row less": lambda frame: {"trials": frame.iloc[1:]},
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_fit_is_refused_and_the_directory_left_alone(
    change: str, quick: Callable[..., Fit], trials: Trials, tmp_path: Path
) -> None:
    out = tmp_path / "fit"
    quick(out=out)
    before = contents(out)
    with pytest.raises(FitError, match=r"holds another fit.*--overwrite"):
        quick(**CHANGES[change](trials("counts")), out=out)
    assert contents(out) == before and [path.name for path in tmp_path.iterdir()] == ["fit"]


def test_overwrite_replaces_another_fit_and_leaves_nothing_beside(quick: Callable[..., Fit], tmp_path: Path) -> None:
    out = tmp_path / "fit"
    quick(out=out)
    second = quick(out=out, seed=2, overwrite=True)
    assert not second.reused and load_fit(out).settings.seed == 2
    assert [path.name for path in tmp_path.iterdir()] == ["fit"]
    assert quick(out=out, seed=2, overwrite=True).reused


def test_the_order_of_levels_is_part_of_the_key(fitted: Fitted, trials: Trials, model: Model, tmp_path: Path) -> None:
    made = fitted("uncorrelated")
    frame = trials("uncorrelated")
    frame["condition"] = frame["condition"].cat.reorder_categories(["hard", "easy", "medium"])
    with pytest.raises(FitError, match="holds another fit"):
        fit(trials=frame, out=made.path, progress=False, **model("uncorrelated"))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"notes.txt": "mine"}, "is not empty and holds no fit"),
        ({"provenance.json": '{"schema": "another-tool/1"}'}, "not of psychostats"),
        ({"provenance.json": '["list"]'}, "not of psychostats"),
        ({"provenance.json": '{"schema"'}, "provenance.json cannot be read"),
        ({".hidden": ""}, "is not empty and holds no fit"),
    ],
)
def test_a_foreign_directory_is_never_touched(
    files: Mapping[str, str], words: str, overwrite: bool, quick: Callable[..., Fit], tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    for name, text in files.items():
        (out / name).write_text(text)
    before = contents(out)
    with pytest.raises(FitError, match=words):
        quick(out=out, overwrite=overwrite)
    with pytest.raises(FitError, match=words):
        quick().write(out, overwrite=overwrite)
    assert contents(out) == before


def test_a_file_laid_beside_a_fit_is_not_lost(quick: Callable[..., Fit], tmp_path: Path) -> None:
    out = tmp_path / "fit"
    quick(out=out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FitError, match=r"holds 'notes\.txt' beside its fit"):
        quick(out=out, seed=2, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"


def test_an_empty_directory_is_free(quick: Callable[..., Fit], tmp_path: Path) -> None:
    (tmp_path / "fit").mkdir()
    assert quick(out=tmp_path / "fit").path == tmp_path / "fit"


def test_a_path_beside_the_working_directory(
    quick: Callable[..., Fit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert quick(out="fit").path == Path("fit")
    assert load_fit("fit").converged is False


# --- Faults -----------------------------------------------------------------------------------------------------------


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def edit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    place = next(i for i in range(len(data) // 2, len(data)) if chr(data[i]).isdigit())
    data[place] = ord("8") if data[place] != ord("8") else ord("7")
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["draws.nc", "summary.csv", "spec.toml", "provenance.json", "timings.json"])
@pytest.mark.parametrize("damage", [cut, edit, Path.unlink], ids=["cut", "edited", "removed"])
def test_a_damaged_file_is_named(
    name: str, damage: Callable[[Path], None], quick: Callable[..., Fit], tmp_path: Path
) -> None:
    out = tmp_path / "fit"
    quick(out=out)
    damage(out / name)
    if name == "timings.json" and damage is edit:
        load_fit(out)  # seconds are nobody's result
        return
    with pytest.raises(FitError, match=re.escape(name)):
        load_fit(out)
    gone = name == "provenance.json" and damage is Path.unlink  # then nothing says that this was a fit
    with pytest.raises(FitError, match="holds no fit" if gone else re.escape(name)):
        quick(out=out)


@pytest.mark.parametrize("name", ["draws.nc", "summary.csv", "spec.toml", "timings.json"])
def test_a_damaged_fit_can_be_fitted_again(name: str, quick: Callable[..., Fit], tmp_path: Path) -> None:
    out = tmp_path / "fit"
    made = quick(out=out)
    cut(out / name)
    again = quick(out=out, overwrite=True)
    assert not again.reused
    pd.testing.assert_frame_equal(load_fit(out).terms(), made.terms())


def reseal(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change provenance.json as a careful forger would."""
    provenance = json.loads((out / "provenance.json").read_text())
    change(provenance)
    del provenance["seal"]
    provenance["seal"] = store.digest(provenance)
    (out / "provenance.json").write_text(json.dumps(provenance))


def test_a_fit_that_does_not_evaluate_as_recorded_is_refused(quick: Callable[..., Fit], tmp_path: Path) -> None:
    out = tmp_path / "fit"
    quick(out=out)
    reseal(out, lambda p: p.update(log_likelihood_at_mean=p["log_likelihood_at_mean"] * (1 + 1e-6)))
    with pytest.raises(
        FitError, match=r"does not verify: its log-likelihood is -\d+\.\d+ where -\d+\.\d+ was recorded"
    ):
        load_fit(out)


def test_a_fit_of_another_form_is_refused_but_may_be_replaced(quick: Callable[..., Fit], tmp_path: Path) -> None:
    out = tmp_path / "fit"
    quick(out=out)
    reseal(out, lambda p: p.update(schema="psychostats-fit/0", key="of then"))
    with pytest.raises(FitError, match="psychostats-fit/0; this version reads psychostats-fit/1"):
        load_fit(out)
    with pytest.raises(FitError, match="holds another fit"):
        quick(out=out)
    assert quick(out=out, overwrite=True).path == out


def test_what_is_no_fit_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("absent", "empty", "file"):
        with pytest.raises(FitError, match=f"{name} is no fit"):
            load_fit(tmp_path / name)


@pytest.mark.parametrize("place", ["file", "file/fit", "file/deep/fit", "long" * 100])
def test_a_place_that_cannot_be_written_is_refused_before_sampling(place: str, trials: Trials, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    began = time.perf_counter()
    with pytest.raises(
        FitError, match=r"is a file|cannot be written: .*file is no directory|cannot be looked into: File name"
    ):
        # A structure that no other test compiles, so that sampling first would take long.
        fit("correct ~ 1", trials("crossed"), out=tmp_path / place, progress=False)
    assert time.perf_counter() - began < 3.0


def test_a_write_that_fails_leaves_the_old_fit_and_nothing_else(quick: Callable[..., Fit], tmp_path: Path) -> None:
    out = tmp_path / "fit"
    made = quick(out=out)
    before = contents(out)
    with pytest.raises(TypeError):
        replace(made, timings={"sample": object()}).write(out)  # type: ignore[dict-item]
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["fit"]


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


def test_engines() -> None:
    assert resolve_engine("pymc") == ("pymc", "asked for")
    engine, reason = resolve_engine("auto")
    assert engine == "pymc" and reason.startswith("auto")
    for later in ("nuts", "laplace"):
        with pytest.raises(InputError, match="--engine pymc"):
            resolve_engine(later)


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
    with pytest.raises(InputError, match=r"^4 rows lack a value .* column 'right', row 30; .*--missing drop"):
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
    assert (provenance["engine"], provenance["data"]["rows"], provenance["data"]["dropped"]) == ("pymc", 480, 0)
    assert provenance["data"]["columns"] == ["correct", "representation", "depth", "participant", "pair"]
    assert provenance["data"]["levels"] == {"representation": ["local", "distributed"]}
    assert set(provenance["files"]) == {"spec.toml", "summary.csv", "draws.nc"}
    assert {"psychostats", "pymc", "nutpie", "numpy", "python"} <= set(provenance["versions"])
    assert {row["class"] for row in provenance["priors"]} == {"b", "sd", "cor"}
    timings = json.loads((made.path / "timings.json").read_text())
    assert set(timings) == {"compile", "sample", "summarise"} and min(timings.values()) >= 0


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
        "sampling": {"draws": 1000, "tune": 1000, "chains": 4, "seed": 1, "target_accept": 0.8},
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


def test_a_spec_is_as_good_as_its_words(quick: Callable[..., Fit], trials: Trials, model: Model) -> None:
    words = model("counts")
    spec = specify(words.pop("formula"), **words, priors=["b ~ normal(0, 2)"])
    made = fit(spec, trials("counts"), **QUICK)
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
