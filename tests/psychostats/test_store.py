"""The directory of a fit: answered from its own place, damage named, and nothing else ever touched."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from psychostats import store
from psychostats.errors import FitError
from psychostats.fit import Fit, fit, load_fit

Trials = Callable[[str], pd.DataFrame]
Model = Callable[[str], dict[str, Any]]
Fitted = Callable[[str], Fit]


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


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


def test_a_link_is_followed_and_a_place_that_cannot_be_taken_is_refused_before_sampling(quick, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    quick(out=tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "draws.nc").is_file()
    begun = []
    for place in (Path("/proc/x"), tmp_path / ("x" * 250), tmp_path / "real" / "draws.nc" / "fit"):
        with pytest.raises(FitError, match="cannot be written"):
            quick(out=place, on_start=lambda engine, reason: begun.append("sampling"))
    assert begun == []


def test_a_full_disk_is_said_in_a_sentence(quick, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(FitError, match="no space left: 1 MB are needed"):
        quick(out=tmp_path / "fit")
    assert list(tmp_path.iterdir()) == []
