"""Posterior draws with names: arrays from a sampler into labelled groups, tables of terms, and a file.

In: a `Sample` and its `Design`.  Out: `Draws`, which knows every term's brms name, hands ArviZ its own container, and
stands in a file by groups.  The one room that knows that ArviZ 0 and ArviZ 1 differ; it knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from psychostats.design import Design
from psychostats.errors import FitError
from psychostats.intervals import Interval
from psychostats.libraries import arviz
from psychostats.mixing import diagnose
from psychostats.monotonic import expand
from psychostats.netcdf import constant, escape, texts
from psychostats.predictor import Parameters
from psychostats.sampling import Sample

Array: TypeAlias = npt.NDArray[np.float64]

# Parameters of families' own that are numbers, and those that are several: before the fixed effects, and behind them.
_FAMILY_TERMS = ("lapse", "sigma", "ndt")
_THRESHOLDS = ("thresholds",)
_SCALES = ("disc",)

TERM_COLUMNS = (
    "term",
    "group",
    "class",
    "estimate",
    "sd",
    "conf_low",
    "conf_high",
    "conf_level",
    "interval",
    "rhat",
    "ess_bulk",
    "ess_tail",
)


@dataclass(frozen=True)
class Draws:
    """Labelled draws, under ArviZ's group names.

    Parameters
    ----------
    groups
        ``posterior`` (``b``, ``sd_GROUP``, ``cor_GROUP``, ``r_GROUP``, with dimensions ``term``, ``GROUP_term``,
        ``GROUP_pair`` and ``GROUP_level``; of monotonic effects ``bsp`` and ``simo_NAME1``; a family's own parameters,
        as ``lapse``, or ``thresholds`` and ``disc``), ``sample_stats``, ``observed_data`` and ``constant_data``.
    """

    groups: dict[str, xr.Dataset]

    @property
    def posterior(self) -> xr.Dataset:
        """The posterior group."""
        return self.groups["posterior"]

    def flat(self, *, random: bool = False) -> pd.DataFrame:
        """Return one column a term under brms's names, behind ``.chain``, ``.iteration`` and ``.draw``, from 1."""
        chains, draws = self.posterior.sizes["chain"], self.posterior.sizes["draw"]
        index = {
            ".chain": np.repeat(np.arange(1, chains + 1), draws),
            ".iteration": np.tile(np.arange(1, draws + 1), chains),
            ".draw": np.arange(1, chains * draws + 1),
        }
        labels, values = self._stack(random=random)
        return pd.DataFrame(
            index | dict(zip([row[0] for row in labels], values.reshape(-1, len(labels)).T, strict=True))
        )

    def terms(self, interval: Interval, *, random: bool = False) -> pd.DataFrame:
        """Summarise every term.

        Parameters
        ----------
        interval
            Kind and probability of the intervals.
        random
            Also the effects of single levels, class ``r``.

        Returns
        -------
        DataFrame
            Columns `TERM_COLUMNS`, one row a term.
        """
        labels, values = self._stack(random=random)
        frame = pd.DataFrame(labels, columns=["term", "group", "class"])
        low, high = interval.of_draws(values.reshape(-1, values.shape[-1]))
        frame["estimate"] = values.mean(axis=(0, 1))
        frame["sd"] = values.reshape(-1, values.shape[-1]).std(axis=0, ddof=1)
        frame["conf_low"], frame["conf_high"] = low, high
        frame["conf_level"], frame["interval"] = interval.probability, interval.kind
        frame["rhat"], frame["ess_bulk"], frame["ess_tail"] = diagnose(values)
        return frame[list(TERM_COLUMNS)]

    def parameters(self, design: Design, *, most: int | None = None) -> Parameters:
        """Return the draws as arrays for the blocks of `design`, all chains together.

        Parameters
        ----------
        design
            Whose columns and blocks are meant.
        most
            Keep at most this many draws, evenly spaced; for checks that need no more.

        Raises
        ------
        KeyError
            If `design` has a column or level that was not drawn.
        """
        posterior = self.posterior
        total = posterior.sizes["chain"] * posterior.sizes["draw"]
        keep = np.arange(total) if most is None or most >= total else np.linspace(0, total - 1, most).astype(int)

        def flat(variable: xr.DataArray) -> Array:
            values = np.asarray(variable.values, dtype=float)
            return np.asarray(values.reshape(total, *values.shape[2:])[keep])

        covariance, r = [], []
        for block in design.blocks:
            terms = list(block.terms)
            of_group = f"{block.group}_term"
            sd = flat(posterior[f"sd_{block.group}"].sel({of_group: terms}))
            correlation = np.zeros((len(keep), len(terms), len(terms)))
            correlation[:, range(len(terms)), range(len(terms))] = 1.0
            if block.structure == "correlated":
                for j in range(len(terms)):
                    for k in range(j):
                        pair = flat(posterior[f"cor_{block.group}"].sel({f"{block.group}_pair": _pair(terms, j, k)}))
                        correlation[:, j, k] = correlation[:, k, j] = pair
            covariance.append(sd[:, :, np.newaxis] * correlation * sd[:, np.newaxis, :])
            of_level = f"{block.group}_level"
            r.append(flat(posterior[f"r_{block.group}"].sel({of_level: list(block.levels), of_group: terms})))
        own = [name for name in (*_FAMILY_TERMS, *_THRESHOLDS) if name in posterior.data_vars]
        family = {name: flat(posterior[name]) for name in own}
        if design.scale_names:
            family["disc"] = flat(posterior["disc"].sel(disc_term=[f"b_{name}" for name in design.scale_names]))
        b, effects = flat(posterior["b"].sel(term=list(design.coefficients))), design.monotonic
        if effects:
            bsp = flat(posterior["bsp"].sel(bsp_term=[effect.term for effect in effects]))
            b = expand(b, bsp, [flat(posterior[effect.simplex]) for effect in effects], effects, len(design.names))
        return Parameters(b, tuple(covariance), tuple(r), family)

    def to_arviz(self) -> Any:
        """Return ArviZ's container: an InferenceData before ArviZ 1, a DataTree from then on."""
        az = arviz()
        if "InferenceData" in vars(az):  # asking by hasattr would make ArviZ 1 warn
            return az.InferenceData(**self.groups)
        # In a DataTree, as in a file, a slash in a name would be a path.
        return xr.DataTree.from_dict({f"/{name}": escape(group) for name, group in self.groups.items()})

    @staticmethod
    def of(groups: Mapping[str, xr.Dataset], path: Path) -> Draws:
        """Take the groups that a file held.

        Raises
        ------
        FitError
            If one is missing.
        """
        names = ("posterior", "sample_stats", "observed_data", "constant_data")
        missing = next((name for name in names if name not in groups), None)
        if missing:
            raise FitError(f"{path} cannot be read as draws: it has no group {missing}.")
        return Draws({name: groups[name] for name in names})

    def _stack(self, *, random: bool) -> tuple[list[tuple[str, str, str]], Array]:
        """Return (term, group, class) of every scalar and its draws, shape ``(chains, draws, terms)``."""
        posterior = self.posterior
        labels: list[tuple[str, str, str]] = []
        parts: list[Array] = []

        def add(variable: str, names: list[tuple[str, str, str]]) -> None:
            labels.extend(names)
            values = np.asarray(posterior[variable].values, dtype=float)
            parts.append(values.reshape(*values.shape[:2], -1))

        for name in _THRESHOLDS:
            if name in posterior.data_vars:
                add(name, [(label, "", "b") for label in _names(posterior, f"{name}_term")])
        add("b", [(f"b_{name}", "", "b") for name in _names(posterior, "term")])
        if "bsp" in posterior.data_vars:
            add("bsp", [(name, "", "b") for name in _names(posterior, "bsp_term")])
        for name in (name for name in _SCALES if name in posterior.data_vars):
            add(name, [(label, "", "b") for label in _names(posterior, f"{name}_term")])
        groups = [str(name)[3:] for name in posterior.data_vars if str(name).startswith("sd_")]
        for g in groups:
            add(f"sd_{g}", [(f"sd_{g}__{term}", g, "sd") for term in _names(posterior, f"{g}_term")])
        for g in groups:
            if f"cor_{g}" in posterior:
                add(f"cor_{g}", [(f"cor_{g}__{pair}", g, "cor") for pair in _names(posterior, f"{g}_pair")])
        for name in (str(name) for name in posterior.data_vars if str(name).startswith("simo_")):
            labels_of = _names(posterior, f"{name}_step")
            if len(labels_of) > 1:  # a single step has the whole way, always
                add(name, [(label, "", "family") for label in labels_of])
        for name in (name for name in _FAMILY_TERMS if name in posterior.data_vars):
            add(name, [(name, "", "family")])
        for g in groups if random else []:
            levels, terms = (_names(posterior, str(dim)) for dim in posterior[f"r_{g}"].dims[2:])
            add(f"r_{g}", [(f"r_{g}[{level},{term}]", g, "r") for level in levels for term in terms])
        return labels, np.concatenate(parts, axis=-1)


def label(sample: Sample, design: Design, data: pd.DataFrame) -> Draws:
    """Give a sample its names.

    Parameters
    ----------
    sample, design
        What was drawn, and for which design.
    data
        The columns of the trials that the formula names; kept so that a fit can code new rows and verify itself.
    """
    variables: dict[str, Any] = {"b": (("chain", "draw", "term"), sample.b)}
    coords: dict[str, Any] = {
        "chain": np.arange(sample.b.shape[0]),
        "draw": np.arange(sample.b.shape[1]),
        "term": texts(design.coefficients),
    }
    for group in dict.fromkeys(block.group for block in design.blocks):
        places = [i for i, block in enumerate(design.blocks) if block.group == group]
        coords[f"{group}_term"] = texts([term for i in places for term in design.blocks[i].terms])
        coords[f"{group}_level"] = texts(design.blocks[places[0]].levels)
        variables[f"sd_{group}"] = (
            ("chain", "draw", f"{group}_term"),
            np.concatenate([sample.sd[i] for i in places], axis=-1),
        )
        pairs = [
            _pair(block.terms, j, k)
            for block in (design.blocks[i] for i in places)
            if block.structure == "correlated"
            for j in range(len(block.terms))
            for k in range(j)
        ]
        if pairs:
            coords[f"{group}_pair"] = texts(pairs)
            variables[f"cor_{group}"] = (
                ("chain", "draw", f"{group}_pair"),
                np.concatenate([sample.cor[i] for i in places], axis=-1),
            )
        variables[f"r_{group}"] = (
            ("chain", "draw", f"{group}_level", f"{group}_term"),
            np.concatenate([sample.r[i] for i in places], axis=-1),
        )
    if design.monotonic:
        coords["bsp_term"] = texts([effect.term for effect in design.monotonic])
        variables["bsp"] = (("chain", "draw", "bsp_term"), sample.bsp)
    for effect, shares in zip(design.monotonic, sample.simo, strict=True):
        coords[f"{effect.simplex}_step"] = texts(effect.shares)
        variables[effect.simplex] = (("chain", "draw", f"{effect.simplex}_step"), shares)
    for name, values in sample.family.items():
        dims: tuple[str, ...] = ("chain", "draw")
        if values.ndim > 2:
            dims = (*dims, f"{name}_term")
            scales = [f"b_{scale}" for scale in design.scale_names]
            thresholds = [f"b_Intercept[{k}]" for k in range(1, values.shape[-1] + 1)]
            coords[f"{name}_term"] = texts(scales if name in _SCALES else thresholds)
        variables[name] = (dims, values)
    return Draws(
        {
            "posterior": xr.Dataset(variables, coords),
            "sample_stats": xr.Dataset(
                {name: (("chain", "draw"), values) for name, values in sample.stats.items()},
                {"chain": coords["chain"], "draw": coords["draw"]},
            ),
            "observed_data": xr.Dataset(
                {"successes": ("trial_row", design.successes), "trials": ("trial_row", design.trials)}
            ),
            "constant_data": constant(data),
        }
    )


def _names(dataset: xr.Dataset, dim: str) -> list[str]:
    return [str(value) for value in dataset[dim].to_numpy()]


def _pair(terms: tuple[str, ...] | list[str], j: int, k: int) -> str:
    """Name the correlation of terms j and k, the earlier first."""
    return f"{terms[k]}__{terms[j]}"
