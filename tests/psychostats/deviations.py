"""Golden numbers beside this package's: which models, and by how much each number differs.

In: `tests/golden/*.json` and, where `PSYCHOSTATS_REFERENCE` names it, the folder of reference data.  Out: `Golden`
models, each with its trials, its call and its numbers, and `compare`, the largest differences by kind of number.  Run
as a script it prints the table of `tests/golden/README.md`.
"""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import psychostats as ps

FOLDER = Path(__file__).parents[1] / "golden"
#: What `compare` measures: absolute; per standard error; relative; relative (absolute where 0); absolute; in
#: conditional SDs; relative.
KINDS = ("logLik", "b / SE", "SE", "SD", "cor", "modes", "mode SDs")


def maximum(formula: str, data: pd.DataFrame, **call: Any) -> ps.Fit:
    """Fit by maximum likelihood."""
    return ps.fit(formula, data, engine="laplace", progress=False, **call)


@dataclass(frozen=True)
class Golden:
    """One model with its reference numbers.

    Parameters
    ----------
    name
        File and entry.
    frame
        Trials; text where R had a factor.
    call
        Arguments of `psychostats.fit`.
    numbers
        ``logLik, df, nobs, fixef, se`` and, where known, ``sd, cor, sigma, modes, mode_sd, singular``; terms named as
        this package names them, groups of levels as R does.
    digits
        How many the reference was written with.
    """

    name: str
    frame: pd.DataFrame = field(repr=False)
    call: Mapping[str, Any]
    numbers: Mapping[str, Any] = field(repr=False)
    digits: int = 15

    @functools.cached_property
    def fit(self) -> ps.Fit:
        """This package's fit."""
        return ps.fit(trials=self.frame, engine="laplace", progress=False, **self.call)


def load(name: str) -> dict[str, Any]:
    """Return one file of golden numbers, what is not a model left out."""
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def trials(path: Path, *, text: Iterable[str] = ()) -> pd.DataFrame:
    """Read trials; the columns `text` hold numbers that are names of levels."""
    frame = pd.read_csv(path, dtype=dict.fromkeys(text, str))
    if "representation" in frame:
        frame["representation"] = pd.Categorical(frame["representation"], ["local", "distributed"])
    return frame


def goldens() -> Iterator[Golden]:
    """Yield the models of `fits.json`, `laplace.json` and of what `quadrature.json` says on committed data."""
    for file in ("fits", "laplace"):
        for name, entry in load(file).items():
            if "VarCorr" in entry and not name.startswith("glmer_"):
                yield Golden(f"{file}:{name}", trials(FOLDER / "data" / entry["data"]), _call(entry), _numbers(entry))
    entry = load("quadrature")["slopes3_intercept"]
    yield from _quadrature("slopes3_intercept", entry, trials(FOLDER / "data" / entry["data"]))


def references(folder: Path) -> Iterator[Golden]:
    """Yield the models of the reference folder, which have six digits, and the quadrature of its `cbpp` data."""
    text = {"cbpp": ("herd", "period"), "sleepstudy": ("Subject",), "pastes": (), "exp1": ("subject", "unit")}
    for file, data in (("B_glmer", "exp1"), ("C_cbpp", "cbpp"), ("C_sleepstudy", "sleepstudy"), ("C_pastes", "pastes")):
        frame = trials(folder / f"{data}.csv", text=text[data])
        for name, model in json.loads((folder / f"{file}.json").read_text("utf-8"))["models"].items():
            for block in ("tight", "ML", "REML"):
                if block not in model:
                    continue
                call = {"formula": _counts(model["formula"], frame)}
                call |= {"family": "binomial"} if block == "tight" else {"family": "gaussian", "reml": block == "REML"}
                numbers = _numbers(model[block] | _six_digits(model[block]))
                yield Golden(f"{file}:{name}" + f":{block}" * (block != "tight"), frame, call, numbers, digits=6)
        if data == "cbpp":
            yield from _quadrature("cbpp", load("quadrature")["cbpp"], frame)


def compare(golden: Golden) -> dict[str, float]:
    """Return the largest difference of each of `KINDS`, NaN where the model has none."""
    fit, numbers = golden.fit, golden.numbers
    best = fit.estimates.maximum
    names = fit.design.names
    b, se = _array(numbers["fixef"], names), _array(numbers["se"], names)
    found = {
        "logLik": abs(fit.likelihood["logLik"] - numbers["logLik"]),
        "b / SE": _largest((best.b - b) / se),
        "SE": _largest(np.sqrt(np.diag(best.covariance)[: len(names)]) / se - 1.0),
    }
    sds = [(own, numbers["sd"][group][term]) for group, term, own in _own_sds(fit)]
    if numbers.get("sigma"):
        sds.append((best.sigma, numbers["sigma"]))
    found["SD"] = max(abs(own - other) / (other or 1.0) for own, other in sds) if sds else math.nan
    if "cor" in numbers:
        pairs = [(own, numbers["cor"][group][a][b]) for group, a, b, own in _own_correlations(fit)]
        found["cor"] = max((abs(own - other) for own, other in pairs if other is not None), default=math.nan)
    if "modes" in numbers:
        pairs = [
            (row.estimate, row.sd, *_of_level(numbers, row)) for row in fit.estimates.modes().itertuples(index=False)
        ]
        own, own_sd, other, other_sd = np.array(pairs).T
        found["modes"] = _largest((own - other) / np.where(other_sd > 0, other_sd, 1.0))
        if all(numbers["mode_sd"].values()):
            found["mode SDs"] = _largest((own_sd - other_sd) / np.where(other_sd > 0, other_sd, 1.0))
    return {kind: found.get(kind, math.nan) for kind in KINDS}


def table(models: Iterable[Golden]) -> str:
    """Return the differences of every model as a Markdown table."""
    lines = ["| model | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    for golden in models:
        cells = ["" if math.isnan(value) else f"{value:.0e}" for value in compare(golden).values()]
        lines.append(f"| {golden.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def reference_name(name: str) -> str:
    """Return this package's name of R's column."""
    return name.replace("(Intercept)", "Intercept")


def _call(entry: Mapping[str, Any]) -> dict[str, Any]:
    call = {"formula": entry["formula"], "family": entry["family"], "link": entry["link"]}
    if entry["family"] == "gaussian":
        return call | {"reml": entry["REML"]}
    if entry["family"] == "binomial" and not entry["formula"].startswith("cbind"):
        call["family"] = "bernoulli"
    return call | {key: entry[key] for key in ("guess", "lapse") if entry.get(key)}


def _quadrature(name: str, entry: Mapping[str, Any], frame: pd.DataFrame) -> Iterator[Golden]:
    for nodes, point in entry["points"].items():
        call = {"formula": _counts(entry["formula"], frame), "quadrature": int(nodes)}
        group = entry["formula"].split("| ")[1].rstrip(")")
        numbers = {"fixef": point["fixef"], "se": point["se"], "logLik": point["logLik"]}
        numbers["VarCorr"] = {group: {"sd": {"(Intercept)": point["sd"]}, "cor": {}}}
        call["family"] = "binomial" if "cbind" in call["formula"] else "bernoulli"
        yield Golden(f"quadrature:{name}:{nodes}", frame, call, _numbers(numbers))


def _numbers(entry: Mapping[str, Any]) -> dict[str, Any]:
    numbers = _renamed({key: value for key, value in entry.items() if key not in ("vcov", "VarCorr", "glmmTMB")})
    parts = _renamed(entry["VarCorr"])
    return numbers | {
        "sd": {g: part["sd"] for g, part in parts.items()},
        "cor": {g: p["cor"] for g, p in parts.items()},
    }


def _renamed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {reference_name(key): _renamed(inner) for key, inner in value.items()}
    return value


def _six_digits(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a reference block whose layout differs: lists where a single term is a bare value."""
    parts: dict[str, Any] = {}
    for key, part in block["VarCorr"].items():
        group = key.removesuffix(".1")  # lme4 splits `||`
        terms = [part["terms"]] if isinstance(part["terms"], str) else part["terms"]
        held = parts.setdefault(group, {"sd": {}, "cor": {}})
        held["sd"] |= dict(zip(terms, part["sd"], strict=True))
        for i, term in enumerate(terms[:-1]):
            held["cor"][term] = dict(zip(terms[i + 1 :], part["corr"][i][i + 1 :], strict=True))
    modes: dict[str, Any] = {}
    for where, key in (("modes", "mode"), ("mode_sd", "cond_sd")):
        modes[where] = {}
        for group, part in block.get("ranef", {}).items():
            modes[where][group] = {}
            for term, levels in (part[key] or {}).items():  # no conditional SDs of `||` in the reference
                for level, value in levels.items():
                    modes[where].setdefault(group, {}).setdefault(level, {})[term] = value
    return {"VarCorr": parts} | modes


def _counts(formula: str, frame: pd.DataFrame) -> str:
    """Give counts of failures their column, which this package's `cbind` wants, as `frame` then has it."""
    if "size - incidence" in formula:
        frame["others"] = frame["size"] - frame["incidence"]
    return formula.replace("size - incidence", "others")


def _own_sds(fit: ps.Fit) -> Iterator[tuple[str, str, float]]:
    for row in fit.estimates.variance_components().itertuples(index=False):
        if row.group != "Residual":
            yield reference_group(row.group), row.term, row.sd


def _own_correlations(fit: ps.Fit) -> Iterator[tuple[str, str, str, float]]:
    for block in fit.design.blocks:
        rows = fit.estimates.variance_components()
        rows = rows[(rows["group"] == block.group) & rows["term"].isin(block.terms)]
        for row in rows.itertuples(index=False):
            for earlier, value in zip(block.terms, row.correlations, strict=False):
                yield reference_group(block.group), earlier, row.term, value


def reference_group(group: str) -> str:
    """Return R's name of a group: the inner factor of a nested one comes first."""
    return ":".join(reversed(group.split(":")))


def _of_level(numbers: Mapping[str, Any], row: Any) -> tuple[float, float]:
    group = reference_group(row.group)
    level = ":".join(reversed(row.level.split(":"))) if ":" in row.group else row.level
    sds = numbers["mode_sd"].get(group)
    return numbers["modes"][group][level][row.term], sds[level][row.term] if sds else row.sd


def _array(values: Mapping[str, float], names: Iterable[str]) -> np.ndarray:
    names = list(names)
    if sorted(values) != sorted(names):
        raise KeyError(f"{sorted(values)} are not {sorted(names)}")
    return np.array([values[name] for name in names], dtype=float)


def _largest(values: np.ndarray) -> float:
    return float(np.max(np.abs(values)))


if __name__ == "__main__":
    given = os.environ.get("PSYCHOSTATS_REFERENCE")
    sys.stdout.write(table([*goldens(), *(references(Path(given)) if given else ())]) + "\n")
