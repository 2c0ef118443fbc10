"""Fits and effects as text for a terminal, in the blocks that lme4 and brms users know.

In: a `Fit` or a table of effects.  Out: text.  Knows no command and no file.
"""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from psychostats.fit import Fit
from psychostats.intervals import Interval
from psychostats.maximum import Method
from psychostats.predictor import TARGETS, describe_target, plural
from psychostats.sampling import Settings
from psychostats.sensitivity import K_MAX, SENSITIVE
from psychostats.sentences import factor

_STRUCTURES = {
    "correlated": "correlated (LKJ prior)",
    "independent": "independent, no correlation fitted",
    "single": "one term",
}


def describe_fit(fit: Fit, *, random: bool = False) -> str:
    """Return the summary of a fit as text: may it be read, what was fitted, the terms in blocks, how they were made."""
    family, design = fit.spec.family, fit.design
    groups = {block.group: len(block.levels) for block in design.blocks}
    lines = []
    if not fit.converged:
        lines += ["NOT CONVERGED: these numbers may not be read.", *(f"  {line}" for line in fit.warnings), ""]
    elif fit.interrupted:
        lines += _first(fit)
    lines += [
        f"Formula: {fit.spec.formula.whole}",
        f"Family:  {family.describe()}",
        f"Data:    {int(design.trials.sum()):,} {'trials' if family.binary else 'rows'}"
        + "".join(f", {count:,} {plural(group)}" for group, count in groups.items())
        + (f"; {fit.provenance['data']['dropped']} rows dropped" if fit.provenance["data"]["dropped"] else ""),
    ]
    lines += [f"Coding:  {name}: {words}" for name, words in fit.coding.describe().items()]
    lines += [
        f"Group effects fitted: ({', '.join(row['terms'])} | {row['group']}) {_structure(fit, row['structure'])}"
        for row in fit.covariance()
    ]
    lines += [_likelihood(fit)] if fit.is_maximum else [_priors(fit)]
    terms = fit.terms(random=random)
    if fit.is_maximum:
        terms = terms.merge(fit.estimates.wald_tests()[["term", "z", "p_value"]], on="term", how="left")
    blocks = {
        "b": "Fixed effects",
        "sd": "Group-level SDs",
        "cor": "Group-level correlations",
        "family": "Residual SD" if fit.is_maximum else "Of the family",
        "r": "Levels",
    }
    for klass, title in blocks.items():
        rows = terms[terms["class"] == klass]
        if len(rows):
            lines += ["", f"{title}:", _terms_text(rows)]
    lines += ["", *(_maximum_notes(fit) if fit.is_maximum else _sampling_notes(fit))]
    if fit.converged and fit.warnings:
        lines += [f"Warning: {line}" for line in fit.warnings if [line, ""] != _first(fit)]
    return "\n".join(lines)


def _first(fit: Fit) -> list[str]:
    """Return what stands before any number of a fit that may not be read, or that was interrupted."""
    said = [] if fit.converged else ["NOT CONVERGED: these numbers may not be read."]
    said += fit.warnings[:1] if fit.interrupted else []
    return [*said, ""] if said else []


def _structure(fit: Fit, structure: str) -> str:
    return "correlated" if fit.is_maximum and structure == "correlated" else _STRUCTURES[structure]


def _priors(fit: Fit) -> str:
    changed = [f"{prior.name} ~ {prior.distribution}" for prior in fit.priors if prior.source != "default"]
    return f"Priors:  {', '.join([*changed, 'the others default'] if changed else ['default'])}"


def _likelihood(fit: Fit) -> str:
    found = fit.likelihood
    name = "REML logLik" if found["REML"] else "logLik"
    return (
        f"Fit:     {name} {found['logLik']:.4f} (df {found['df']}, {found['nobs']:,} observations), AIC "
        f"{found['AIC']:.2f}, BIC {found['BIC']:.2f}"
    )


def _sampling_notes(fit: Fit) -> list[str]:
    how = fit.settings
    assert isinstance(how, Settings)
    return [
        f"Estimates are posterior means on the {fit.spec.family.link} scale; conf_low and conf_high bound the "
        f"{fit.interval.label}.",
        f"{how.chains} chains of {fit.kept} draws after {how.tune}, seed {how.seed}, engine "
        f"{fit.provenance['engine']} ({fit.provenance['engine_reason']}).",
    ]


def _maximum_notes(fit: Fit) -> list[str]:
    how, family = fit.settings, fit.spec.family
    assert isinstance(how, Method)
    if not family.binary:
        likelihood = "restricted maximum likelihood" if how.reml else "maximum likelihood"
        errors = "given the SDs"
    else:
        likelihood = "maximum likelihood by " + (
            f"adaptive quadrature with {how.quadrature} nodes"
            if how.quadrature > 1
            else "Laplace's approximation (approximate)"
        )
        errors = "from the joint Hessian of all parameters"
    made = {
        "wald": "; those of SDs are made on their logarithm, those of correlations on their inverse hyperbolic tangent",
        "profile": ", where the likelihood falls; 0 for an SD, -1 or 1 for a correlation: the data give no limit",
    }
    if fit.interval.kind == "bootstrap":
        errors = "SDs of the estimates of data simulated by the fitted model"
    return [
        f"Estimates on the {family.link} scale by {likelihood}; sd: standard errors, {errors}.",
        f"conf_low and conf_high bound the {fit.interval.label}{made.get(fit.interval.kind, '')}. z and p_value: Wald "
        "test.",
    ]


def describe_effects(fit: Fit, table: pd.DataFrame, named: Collection[str]) -> str:
    """Return a table of effects as text, with what its intervals and columns are.

    `named` are the predictors whose values were asked for; other numbers are held at their mean, which is said.
    """
    groups = list(dict.fromkeys(block.group for block in fit.design.blocks))
    held = ", ".join(f"{name} = {mean:.4g}" for name, (_, mean, _) in fit.coding.ranges.items() if name not in named)
    interval = Interval(table["interval"].iloc[0], float(table["conf_level"].iloc[0]))
    first = _first(fit)
    shown = table.drop(columns=["conf_level", "interval", "rope_low", "rope_high"])
    if shown["contrast"].isna().all():
        shown = shown.drop(columns=["contrast", "pd", "rope_share"])
    elif fit.is_maximum:
        shown = shown.drop(columns=["pd", "rope_share"])
    notes = [
        f"conf_low and conf_high bound the {interval.label}.",
        _estimate(fit, table),
        *(f"{target}: {describe_target(target, groups)}." for target in TARGETS),
        *([] if fit.spec.family.binary else [f"response: {fit.spec.family.quantity}."]),
        *([f"Held at their mean: {held}."] if held else []),
    ]
    if "pd" in shown:
        ropes = table.dropna(subset=["rope_low"]).drop_duplicates("scale")
        notes.append(
            "pd: probability of direction; rope_share: share of draws within "
            + ", ".join(f"{row.rope_low:.3g} to {row.rope_high:.3g} ({row.scale})" for row in ropes.itertuples())
            + "."
        )
    return "\n".join([*first, _table(shown), "", *notes])


def describe_comparison(table: pd.DataFrame) -> str:
    """Return a comparison of fits as text."""
    if "elpd" in table:
        return _predictions(table)
    same = table["family"].nunique() == 1
    shown = table.drop(columns=["formula", "boundary", *(["family"] if same else [])])
    for name in ("chisq_df", "df"):
        shown[name] = shown[name].map(lambda v: "" if pd.isna(v) else f"{v:.0f}")
    for name in ("p_value", "p_boundary"):
        shown[name] = shown[name].map(_p_value)
    shown = shown.drop(columns=[name for name in ("against", "chisq", "p_boundary") if table[name].isna().all()])
    if table["chisq"].isna().all():
        shown = shown.drop(columns=["chisq_df", "p_value"])
    width = max(map(len, table["model"]))
    rows = table.to_dict(orient="records")
    notes = [
        *(f"{row['model'].ljust(width)}  {row['formula']}" for row in rows),
        "",
        _table(shown),
        "",
        "delta_AIC: to the smallest; weight_AIC: Akaike weight.",
    ]
    if table["against"].notna().any():
        notes.append("chisq: likelihood-ratio test against the model named, which is a special case.")
    for row in table.dropna(subset=["boundary"]).to_dict(orient="records"):
        known = pd.notna(row["p_boundary"])
        corrected = "p_boundary takes that into account." if known else "no simple law corrects it here."
        notes.append(
            f"{row['model']} against {row['against']}: {row['boundary']} is 0 in the smaller model, the end of its "
            f"range, so p_value is too large; {corrected}"
        )
    return "\n".join(notes)


def _predictions(table: pd.DataFrame) -> str:
    """Return a comparison of draws as text."""
    same = table["family"].nunique() == 1
    no_k = ["bad_k"] if table["bad_k"].isna().all() else []
    width = max(map(len, table["model"]))
    return "\n".join(
        [
            *(f"{row['model'].ljust(width)}  {row['formula']}" for row in table.to_dict(orient="records")),
            "",
            _table(table.drop(columns=["formula", "unit", *(["family"] if same else []), *no_k])),
            "",
            *table.attrs["notes"],
            "elpd_diff: to the best model; p_loo: effective parameters; weight_stacking: share in the best mixture.",
        ]
    )


def describe_sensitivity(fit: Fit, table: pd.DataFrame) -> str:
    """Return the table of `psychostats.sensitivity.prior_sensitivity` as text, with how it is read."""
    first = _first(fit)
    notes = [
        "How far each term's distribution moves (0 to 1) for a doubling of the power of the prior, or the likelihood.",
        f"Marked from {SENSITIVE:g} on: by the prior alone, it is strong or the data weak; by both, they may disagree.",
        "Group effects given their SDs are part of the model.",
    ]
    if not table.attrs["pareto_k"] <= K_MAX:
        notes.append(f"Pareto's k is {table.attrs['pareto_k']:.2f}: the weights are too uneven; fit with other priors.")
    return "\n".join([*first, _table(table.round(3)), "", *notes])


def describe_bayes_factor(fit: Fit, table: pd.DataFrame) -> str:
    """Return the table of `psychostats.bayes_factor.bayes_factor` as text, with what it says and how it was made."""
    first = _first(fit)
    shown = table.drop(columns=["term", *(["note"] if (table["note"] == "").all() else [])])
    for name in ("bf01", "bf10", "bf01_normal"):
        shown[name] = table[name].map(factor)
    return "\n".join(
        [
            *first,
            _table(shown.rename(columns={"scale": "prior's scale"})),
            "",
            *table.attrs["notes"],
            "bf01: posterior over prior density at 0 (Savage-Dickey), the posterior's by a log-spline on the draws; "
            "bf10 = 1 / bf01; bf01_normal: with a normal density.",
            "mc_error: relative Monte Carlo standard error. Other scales: by weighing the draws; pareto_k above "
            f"{K_MAX:g} says that this fails.",
        ]
    )


def describe_opinions(fit: Fit, table: pd.DataFrame) -> str:
    """Return a model's population contrasts beside second opinions as text."""
    first = _first(fit)
    hidden = ["term", "target", "conf_level", "interval", "pd", "rope_low", "rope_high", "rope_share"]
    kinds = dict.fromkeys(
        Interval(kind, level).label for kind, level in zip(table["interval"], table["conf_level"], strict=True)
    )
    held = ", ".join(f"{name} = {mean:.4g}" for name, (_, mean, _) in fit.coding.ranges.items() if name not in table)
    bounds = " (model), ".join(kinds) if len(kinds) > 1 else next(iter(kinds))
    return "\n".join(
        [
            *first,
            _table(table.drop(columns=hidden)),
            "",
            f"conf_low and conf_high bound the {bounds}.",
            *([f"Held at their mean: {held}."] if held else []),
            *table.attrs["notes"],
        ]
    )


def _p_value(p: float) -> str:
    return "" if pd.isna(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _estimate(fit: Fit, table: pd.DataFrame) -> str:
    """Say what the estimates of a table of effects are."""
    if not fit.is_maximum:
        return "estimate is the posterior mean."
    averaged = (
        " Typical means on the response scale are averaged on the link scale."
        if set(table["scale"]) != {"link"}
        else ""
    )
    return f"estimate is at the maximum of the likelihood; sd by the delta method, limits back-transformed.{averaged}"


def _terms_text(rows: pd.DataFrame) -> str:
    shown = rows[["term", "estimate", "sd", "conf_low", "conf_high"]].copy()
    if "p_value" in rows:
        if (rows["class"] == "b").all():
            shown["z"] = rows["z"]
            shown["p_value"] = rows["p_value"].map(
                lambda p: "" if pd.isna(p) else "<0.001" if p < 0.001 else f"{p:.3f}"
            )
        return _table(shown)
    shown["rhat"] = rows["rhat"].map(lambda v: f"{v:.3f}")
    for name in ("ess_bulk", "ess_tail"):
        shown[name] = rows[name].map(lambda v: "nan" if pd.isna(v) else f"{v:.0f}")
    return _table(shown)


def _table(frame: pd.DataFrame) -> str:
    """Align a frame: text to the left, numbers with three decimals to the right, blanks for what does not apply."""
    shown = frame.copy()
    for name in shown.columns:
        if pd.api.types.is_float_dtype(shown[name]):
            shown[name] = shown[name].map(lambda v: "" if pd.isna(v) else f"{v:.3f}")
        else:
            shown[name] = shown[name].map(lambda v: "" if v is None or pd.isna(v) else str(v))
    widths = {name: max(len(str(name)), *(len(v) for v in shown[name])) for name in shown.columns}
    numeric = {name for name in frame.columns if pd.api.types.is_numeric_dtype(frame[name])} | {
        "rhat",
        "ess_bulk",
        "ess_tail",
        "p_value",
        "p_boundary",
        "df",
        "chisq_df",
        "bf01",
        "bf10",
        "bf01_normal",
    }

    def line(values: dict[str, str]) -> str:
        cells = [v.rjust(widths[n]) if n in numeric else v.ljust(widths[n]) for n, v in values.items()]
        return "  ".join(cells).rstrip()

    head = line({str(name): str(name) for name in shown.columns})
    return "\n".join([head, *(line(dict(zip(shown.columns, row, strict=True))) for row in shown.to_numpy())])
