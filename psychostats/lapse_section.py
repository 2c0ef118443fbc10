"""What a report on power says of lapses, careless people and rules about catch trials.

In: a question and the summary of its simulations.  Out: figures in a folder, and blocks of a section; every number is a
cell of a table.  Knows neither HTML nor PDF.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from psychostats.catch_trials import attenuation
from psychostats.chapters import Chapter
from psychostats.document import Block, BulletList, Column, Figure, Heading, Paragraph, Table, Words, prose
from psychostats.lapse_figures import TREATMENTS, name_rule, plot_lapses, plot_rules
from psychostats.lapse_tables import Measure, Summary
from psychostats.lapses import NO_RULE, Question


def chapter_lapses(question: Question, summary: Summary) -> Chapter:
    """Return the chapter of a report on power."""
    first = _say_lapses(question, summary, _quantity(summary))
    return Chapter(
        lambda figures: compose_lapses(question, summary, figures),
        (first, *(_say_rule(question, summary, _quantity(summary), rule) for rule in question.least[1:])),
        {
            "lapses": summary.performance,
            "catch_rules": summary.differences,
            "catch_break_even": summary.break_even,
            "catch_dismissals": summary.dismissals,
        },
        plot_summary(question, summary),
    )


def plot_summary(question: Question, summary: Summary) -> dict[str, Any]:
    """Return the chapter's figures by name."""
    telling, treatment = _telling(summary), question.treatments[0]
    catch = question.plan.catch
    table = summary.performance[(summary.performance["quantity"] == telling)]
    shown = table[table["rule"] == NO_RULE]
    ends = {share: _careless(share).capitalize() for share in (question.careless[0], question.careless[-1])}
    plots = {"lapses": plot_lapses(shown, careless=ends)}
    if len(summary.differences):
        shown_of: dict[Measure, str] = {"expected": _quantity(summary), "power": telling}
        for measure, name in shown_of.items():
            part = summary.differences[_which(summary.differences, name, treatment)]
            turns = summary.break_even[_which(summary.break_even, name, treatment)]
            plots[f"catch_rules_{measure}"] = plot_rules(part, turns, measure=measure, catch=catch)
    return plots


def compose_lapses(
    question: Question, summary: Summary, figures: Mapping[str, Path], *, anchor: str = "lapses"
) -> list[Block]:
    """Compose the section.

    Parameters
    ----------
    question, summary
        Of `psychostats.lapses` and `psychostats.lapse_tables`.
    figures
        Files of `plot_summary`.
    anchor
        Of its heading; those of tables and figures begin with it.
    """
    people, name = question.people, _quantity(summary)
    ways = len(question.procedures(question.rates[0]))
    done = int(summary.performance["simulations"].min())
    blocks: list[Block] = [
        Heading("Lapses, careless people and catch trials", 1, anchor),
        Paragraph(
            f"{done:,} simulations or more of each of {len(question.scenarios)} scenarios, with {people} simulated "
            "participants each: a true lapse rate, and a share of people who answer at chance throughout. The same "
            f"simulated trials are analysed in {ways} ways. What is asked for is the "
            f"difference {_named(name)} in accuracy, lapses included, among careful people. Numbers "
            "after ± are standard errors of the simulation."
        ),
        BulletList(tuple(_points(question, summary, name))),
        Figure(
            figures["lapses"],
            f"What lapses do to power and error of {_named(_telling(summary))}, without a rule about catch trials, by "
            "how the analysis takes the rate.",
            "Power and root mean square error against the true lapse rate, one line for each treatment of the rate.",
            f"{anchor}-figure-lapses",
        ),
    ]
    parts = (
        ("expected", "the expected error", _quantity(summary), ": bias that careless people leave, and standard error"),
        ("power", "power", _telling(summary), ""),
    )
    for measure, words, of, what in parts:
        if f"catch_rules_{measure}" in figures:
            blocks.append(
                Figure(
                    figures[f"catch_rules_{measure}"],
                    f"What a rule about catch trials changes in {words} of {_named(of)}, against no such rule on the "
                    f"same trials{what}.",
                    f"Change in {words} against the share of careless people, one line for each rule.",
                    f"{anchor}-figure-rules-{measure}",
                )
            )
    blocks += [_tabulate(question, summary, anchor)]
    if len(summary.differences):
        blocks += [_tabulate_rules(question, summary, anchor), _tabulate_dismissals(question, summary, anchor)]
    return blocks


def _points(question: Question, summary: Summary, name: str) -> list[Words]:
    """Return what is said first."""
    points = [_say_lapses(question, summary, name)]
    if len(question.treatments) > 1:
        points += _say_treatments(question, summary, name)
    for rule in question.least[1:]:
        points.append(_say_dismissals(question, summary, rule))
        points.append(_say_rule(question, summary, name, rule))
    return points


def _say_lapses(question: Question, summary: Summary, name: str) -> Words:
    first, last = question.rates[0], question.rates[-1]
    share = question.careless[0]
    a = _cell(summary, question, name, first, share)
    left = attenuation(lapse=last, guess=float(question.plan.spec.family.guess))
    careless = "" if share == 0 else f" with {_careless(share)}"
    before = f" after {_points_of(a['truth'])} at {100 * first:g} %" if last > first else ""
    powers = []
    for one in summary.quantities:
        a, b = (_cell(summary, question, one, rate, share) for rate in (first, last))
        powers.append(f"{_share(a, 'power')} and {_share(b, 'power')} for {_named(one)}")
    a, b = (_cell(summary, question, name, rate, share) for rate in (first, last))
    return prose(
        "{0}",
        f"A lapse rate of {100 * last:g} % leaves {100 * left:.0f} % of the difference that there is without lapses: "
        f"{_points_of(b['truth'])} percentage points{before}. Without a rule about catch trials{careless}, power at "
        f"{100 * first:g} % and at {100 * last:g} % is {'; '.join(powers)}.",
    )


def _say_treatments(question: Question, summary: Summary, name: str) -> list[Words]:
    rate, share = question.rates[-1], question.careless[0]
    said: list[Words] = []
    parts = []
    for treatment in question.treatments:
        row = _cell(summary, question, name, rate, share, treatment)
        parts.append(
            f"{TREATMENTS[treatment]}: power {_share(row, 'power')}, RMSE {_points_of(row['rmse'], 2)} points, "
            f"coverage {_share(row, 'coverage')}"
        )
    said.append(prose("{0}", f"At a lapse rate of {100 * rate:g} %, {'; '.join(parts)}."))
    if "estimated" in question.treatments and rate > 0:
        row = _cell(summary, question, name, rate, share, "estimated")
        if row["at_end"] >= 0.5:
            said.append(
                prose(
                    "{0}",
                    f"The rate from the main trials is 0 in {100 * row['at_end']:.0f} % of simulations although it is "
                    f"{100 * rate:g} %: with so few trials a person and a feature, Laplace's approximation cannot tell "
                    "lapses from differences between people. Take it from catch trials, or fit the posterior "
                    '(lapse = "estimate").',
                )
            )
    return said


def _say_dismissals(question: Question, summary: Summary, rule: float) -> Words:
    rows = summary.dismissals[(summary.dismissals["rule"] == rule)]
    careful = rows.drop_duplicates("lapse").set_index("lapse")["careful"]
    by_rate = "; ".join(
        f"{100 * share:.1f} % at a lapse rate of {100 * rate:g} % ({share * question.people:.1f} of {question.people})"
        for rate, share in zip(careful.index.to_numpy(), careful, strict=True)
    )
    caught = float(rows["caught"].iloc[0])
    return prose(
        "{0}",
        f"The rule {name_rule(rule, question.plan.catch)} dismisses {100 * caught:.0f} % of people who guess, and of "
        f"careful people by chance {by_rate}.",
    )


def _say_rule(question: Question, summary: Summary, name: str, rule: float) -> Words:
    """Say from which share of careless people on a rule pays, by error and by power."""
    turns = summary.break_even
    turns = turns[_which(turns, name, question.treatments[0]) & (turns["rule"] == rule)]
    said = []
    # What the closed form expects knows no other rules, which find careless people too.
    error = ("rmse", ("error", "less")) if question.other_rules else ("expected", ("expected error", "less"))
    for measure, (what, better) in (error, ("power", ("power", "more"))):
        phrases: dict[str, list[str]] = {}
        for rate in question.rates:
            row = turns[(turns["lapse"] == rate) & (turns["measure"] == measure)].iloc[0].to_dict()
            phrase = {
                "from": f"{better} from {_with_error(row, 'careless', 1)} % careless people on",
                "end": f"{better} with {100 * row['careless']:g} % careless people or more, open with fewer",
                "always": f"{better} with any share of careless people asked about",
                "never": f"not {better} with any share of careless people asked about",
                "open": "open",
            }[str(row["verdict"])]
            phrases.setdefault(phrase, []).append(f"{100 * rate:g} %")
        parts = [f"{phrase} (lapse rate {' or '.join(rates)})" for phrase, rates in phrases.items()]
        said.append(f"{what} is {'; '.join(parts)}")
    return prose("{0}", f"Against no rule, {name_rule(rule, question.plan.catch)}: {', and '.join(said)}.")


def _tabulate(question: Question, summary: Summary, anchor: str) -> Table:
    table = summary.performance
    frame = pd.DataFrame(
        {
            "lapse": [f"{100 * one:g} %" for one in table["lapse"]],
            "careless": [f"{100 * one:g} %" for one in table["careless"]],
            "rule": [name_rule(one, question.plan.catch) for one in table["rule"]],
            "treatment": table["treatment"].map(TREATMENTS),
            "power": [_share(row, "power") for row in table.to_dict("records")],
            "half_width": [_points_of(one, 2) for one in table["half_width"]],
            "bias": [_with_error(row, "bias") for row in table.to_dict("records")],
            "rmse": [_with_error(row, "rmse") for row in table.to_dict("records")],
            "coverage": [_share(row, "coverage") for row in table.to_dict("records")],
            "failed": table["failed"],
        }
    )[(table["quantity"] == _quantity(summary)).to_numpy()]
    columns = (
        Column("lapse", "Lapse rate", align="right"),
        Column("careless", "Careless", align="right"),
        Column("rule", "Catch rule"),
        *((Column("treatment", "Analysis"),) if len(question.treatments) > 1 else ()),
        Column("power", "Power", align="right"),
        Column("half_width", "Half width", align="right"),
        Column("bias", "Bias", align="right"),
        Column("rmse", "RMSE", align="right"),
        Column("coverage", "Coverage", align="right"),
        Column("failed", "Failed", "integer"),
    )
    note = (
        "Half width, bias and RMSE in percentage points, against the true difference among careful people, lapses "
        "included. Failed: simulations without a fit, which count as not detected."
    )
    return Table(columns, frame, "Power, precision and error of the difference.", note, f"{anchor}-table")


def _tabulate_rules(question: Question, summary: Summary, anchor: str) -> Table:
    table = summary.differences
    table = table[_which(table, _quantity(summary), question.treatments[0])]
    rows = table.to_dict("records")
    frame = pd.DataFrame(
        {
            "lapse": [f"{100 * one:g} %" for one in table["lapse"]],
            "careless": [f"{100 * one:g} %" for one in table["careless"]],
            "rule": [name_rule(one, question.plan.catch) for one in table["rule"]],
            "power": [f"{row['power']:+.3f} ± {row['power_se']:.3f}".replace("-", "−") for row in rows],
            "half_width": [_with_error(row, "half_width", 3, signed=True) for row in rows],
            "rmse": [_with_error(row, "rmse", 3, signed=True) for row in rows],
            "expected": [_with_error(row, "expected", 3, signed=True) for row in rows],
        }
    )
    columns = (
        Column("lapse", "Lapse rate", align="right"),
        Column("careless", "Careless", align="right"),
        Column("rule", "Catch rule"),
        Column("power", "Power", align="right"),
        Column("half_width", "Half width", align="right"),
        Column("rmse", "RMSE", align="right"),
        Column("expected", "Expected error", align="right"),
    )
    return Table(
        columns,
        frame,
        f"What a rule changes for {_named(_quantity(summary))}: with it minus without, on the same trials.",
        "Half width and errors in percentage points. Standard errors are of paired differences; that of power is "
        "McNemar's. Expected error: the root of the squared bias that careless people leave, in closed form, and the "
        "mean squared standard error; it is known better than the RMSE, and holds as far as standard errors do.",
        f"{anchor}-table-rules",
    )


def _tabulate_dismissals(question: Question, summary: Summary, anchor: str) -> Table:
    table = summary.dismissals
    frame = pd.DataFrame(
        {
            "lapse": [f"{100 * one:g} %" for one in table["lapse"]],
            "careless": [f"{100 * one:g} %" for one in table["careless"]],
            "rule": [name_rule(one, question.plan.catch) for one in table["rule"]],
            "careful": table["careful"],
            "caught": table["caught"],
            "expected": table["expected"],
            "simulated": [f"{a:.1f} ± {b:.1f}" for a, b in zip(table["simulated"], table["simulated_se"], strict=True)],
        }
    )
    columns = (
        Column("lapse", "Lapse rate", align="right"),
        Column("careless", "Careless", align="right"),
        Column("rule", "Catch rule"),
        Column("careful", "Of careful people", "percent", 1),
        Column("caught", "Of careless people", "percent", 1),
        Column("expected", "People expected", "number", 1),
        Column("simulated", "People simulated", align="right"),
    )
    return Table(
        columns,
        frame,
        "Whom a rule dismisses.",
        "Shares and expected numbers by the binomial law of each person's catch trials.",
        f"{anchor}-table-dismissals",
    )


def _quantity(summary: Summary) -> str:
    """Return the headline contrast: the quantity that came first."""
    return str(summary.quantities[0])


def _telling(summary: Summary) -> str:
    """Return the quantity whose power is nearest to a half, and so can rise and fall; the headline where all are."""
    power = summary.performance.groupby("quantity")["power"].mean()
    return min(summary.quantities, key=lambda name: abs(float(power[name]) - 0.5))


def _named(quantity: str) -> str:
    return quantity.replace(" - ", " − ")


def _which(table: pd.DataFrame, quantity: str, treatment: str) -> pd.Series[bool]:
    return (table["quantity"] == quantity) & (table["treatment"] == treatment)


def _cell(
    summary: Summary, question: Question, quantity: str, rate: float, share: float, treatment: str | None = None
) -> dict[str, Any]:
    """Return the row of a scenario without a rule."""
    table = summary.performance
    rows = table[_which(table, quantity, treatment or question.treatments[0]) & (table["rule"] == NO_RULE)]
    return {
        str(key): value
        for key, value in rows[(rows["lapse"] == rate) & (rows["careless"] == share)].iloc[0].to_dict().items()
    }


def _careless(share: float) -> str:
    return f"{100 * share:g} % careless people" if share else "nobody careless"


def _points_of(value: float, digits: int = 1) -> str:
    return "–" if not np.isfinite(value) else f"{100 * value:.{digits}f}".replace("-", "−")


def _with_error(row: Mapping[Any, Any], name: str, digits: int = 2, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{100 * row[name]:{sign}.{digits}f} ± {100 * row[f'{name}_se']:.{digits}f}".replace("-", "−")


def _share(row: Mapping[Any, Any], name: str) -> str:
    return f"{row[name]:.3f} ± {row[f'{name}_se']:.3f}"
