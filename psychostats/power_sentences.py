"""What a power analysis says in words: the wish, the recommendation, the null, the sampler; and its table as text.

In: a `Power`.  Out: sentences and lines.  Rounds; computes no statistic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from psychostats.characteristics import MONTE_CARLO, lean
from psychostats.document import format_value
from psychostats.measure import number, percent
from psychostats.planning import Question, Size
from psychostats.power import Power
from psychostats.power_simulations import size_of

Row = Mapping[Any, Any]

#: What bars and brackets are, and who took part, said wherever figures stand.
BARS = f"Bars: {100 * MONTE_CARLO:g} % Monte Carlo intervals."
NOTE = "Simulated participants."
BRACKETS = f"in brackets {100 * MONTE_CARLO:g} % Monte Carlo intervals"


#: Studies that both engines have fitted from which on one is said to stand for the other, and how many of them must
#: detect, and must not (assumed).
ENOUGH, FEW = 10, 3


def say_quantity(name: str) -> str:
    """Return a quantity's name as a reader sees it."""
    return name.replace(" - ", " − ")


def say_wish(question: Question) -> str:
    """Say what is wished, of which quantity."""
    parts = []
    if question.power is not None:
        parts.append(f"a power of at least {percent(question.power)}")
    if question.precision is not None:
        measure = question.measure
        parts.append(f"a mean half width of at most {measure.width(question.precision)} {measure.units}")
    level = f"{100 * question.asked.probability:g} %"
    return f"{' and '.join(parts)} for {say_quantity(question.wished)} ({level} intervals)"


def within(row: Row, name: str) -> str:
    """Print a share with its interval in per cent, ``86.2 % [84.0, 88.2]``."""
    return _bracketed(row, name, lambda value: format_value(100 * value, "number", 1), " %")


def width(question: Question, row: Row, name: str) -> str:
    """Print a width with its interval in the units of the response."""
    return _bracketed(row, name, question.measure.width, "")


def times(row: Row, name: str) -> str:
    """Print a ratio with its interval."""
    return _bracketed(row, name, number, "")


def _bracketed(row: Row, name: str, shown: Any, unit: str) -> str:
    value, low, high = (float(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    if math.isnan(value):
        return "–"
    unit = "\u00a0%" if unit else ""
    return f"{shown(value)}{unit}" + ("" if math.isnan(low) else f" [{shown(low)}, {shown(high)}]")


def say_figures(power: Power, row: Row) -> str:
    """Return the figures of a design that the wish is about."""
    parts = [f"power {within(row, 'power')}"] if power.question.power is not None else []
    if power.question.precision is not None or not parts:
        parts.append(f"half width {width(power.question, row, 'half_width')} {power.question.measure.short}")
    return ", ".join(parts)


def say_recommendation(power: Power) -> list[str]:
    """Say which design is recommended, which are open, and where none meets the wish, what would."""
    best, said, say = power.recommended, [], power.question.say
    if best is not None:
        which = f"{say(size_of(best))} (cost {number(best['cost'], 1)}): {say_figures(power, best)}"
        if len(power.question.sizes) > 1:
            said.append(f"The cheapest design that meets the wish is {which}.")
        else:
            said.append(f"The only design that was simulated meets the wish: {which}. No smaller one was asked about.")
    elif power.unmet:
        said.append(say_unmet(power))
    else:
        said.append("No design meets the wish beyond Monte Carlo doubt; of some the simulations do not tell.")
    for row in power.open[:3]:
        more = power.more(row)
        tell = (
            "it is too near the wish for more simulations to" if more is None else f"about {_rounded(more)} more would"
        )
        said.append(
            f"{'Cheaper, and open' if best is not None else 'Open'}: {say(size_of(row))} (cost "
            f"{number(row['cost'], 1)}), "
            f"{say_figures(power, row)}; {tell} tell whether it meets the wish."
        )
    if best is None:
        said += say_beyond(power)
    return said


def say_unmet(power: Power) -> str:
    """Say in one sentence that no design meets the wish."""
    near = power.best
    count = len(power.question.sizes)
    which = "the design does" if count == 1 else f"none of the {count} designs does"
    lead = "The wish is not met" if count > 1 else "The wish is missed"
    return (
        f"{lead}: {say_wish(power.question)} was asked for, and {which}"
        f"{' not' if count == 1 else ''}; nearest comes {power.question.say(size_of(near))}, "
        f"with {say_figures(power, near)}."
    )


def say_beyond(power: Power) -> list[str]:
    """Say about what would meet the wish, by extrapolation from the designs that were simulated."""
    question, near = power.question, size_of(power.best)
    curve = power.curves.get(question.wished)
    if curve is None:
        return []
    items = question.items
    law = f"a / {items} + b / participants + c / trials" if items else "b / participants + c / trials"
    label = f"Extrapolated, not simulated (a normal estimate whose variance is {law})"
    taken = f" and {near.pairs} {items}" if items else ""
    people = power.needed(near)
    if people is not None:
        far = ", more than a hundred times as many" if people > 100 * near.participants else ""
        return [f"{label}: about {_rounded(people)} participants of {near.main} trials{taken}{far}."]
    given = f"{near.pairs} {items} and {near.main} trials" if items else f"{near.main} trials"
    said = f"{label}: no number of participants would, with {given}"
    endless = 10**9
    if question.power is not None:
        said += f"; power levels off at about {percent(curve.power(endless, near.main, near.pairs))}"
    if question.precision is not None:
        least = question.measure.width(curve.half_width(endless, near.main, near.pairs))
        said += f"; the half width at about {least} {question.measure.short}"
    needed = [f"more {items}"] if items else []
    needed += ["an effect that is larger"] if question.power is not None else []
    return [f"{said}. What is needed is {' or '.join(needed) or 'another design'}."]


def _rounded(value: int) -> str:
    """A number with two digits that count."""
    step = 10 ** max(0, len(str(value)) - 2)
    return f"{math.ceil(value / step) * step:,}"


def say_null(power: Power) -> list[str]:
    """Say how often a difference is found where there is none, and whether that is as often as meant."""
    nominal, said = 1.0 - power.question.asked.probability, []
    for row in power.null.to_dict("records"):
        low, high = row["power_low"], row["power_high"]
        side = "as often as meant" if low <= nominal <= high else "more often" if low > nominal else "more rarely"
        flattered = "; its power is flattered too" if low > nominal else ""
        said.append(
            f"False positives for {say_quantity(row['quantity'])} with {power.question.say(size_of(row))}: "
            f"{within(row, 'power')}, where "
            f"{percent(nominal)} are meant: {side}, as far as these simulations tell{flattered}."
        )
    return said


def say_calibration(power: Power) -> list[str]:
    """Say whether maximum likelihood may stand for the sampler."""
    said = []
    for row in power.calibration.to_dict("records"):
        alone = row["first_only"] + row["second_only"]
        said.append(
            f"{say_quantity(row['quantity'])}, {power.question.say(size_of(row))}: both engines agree on detection in "
            f"{row['studies'] - alone} of {row['studies']} studies (maximum likelihood alone detects in "
            f"{row['first_only']}, nuts alone in {row['second_only']}); nuts' intervals are "
            f"{times(row, 'width_ratio')} times as wide, and its estimates lie {times(row, 'shift')} SDs away."
        )
    return said


def judge_calibration(power: Power) -> list[str]:
    """Say of every quantity in one sentence whether maximum likelihood's power may be taken for the sampler's."""
    if power.calibration.empty:
        return [f"No study was sampled: {power.question.unsampled or 'none was fitted by both engines'}."]
    return [_judge_engines(name, power.calibration) for name in power.question.quantities]


def _judge_engines(name: str, calibration: pd.DataFrame) -> str:
    rows = calibration[calibration["quantity"] == name]
    studies, first, second, both, neither = (
        int(rows[key].sum()) for key in ("studies", "first_only", "second_only", "both", "neither")
    )
    side, alone = lean(first, second), first + second
    if studies < ENOUGH:
        verdict = f"which are too few to say whether the power by maximum likelihood may be taken (at least {ENOUGH})"
    elif min(both, neither) + alone < FEW:
        verdict = f"which tells little, since {'nearly all' if both > neither else 'hardly any'} of them detect it"
    elif alone == 0 or side == 0:
        verdict = "without a lean to one side, so the power by maximum likelihood may be taken"
    elif side is None:
        verdict = f"{first} of them found by maximum likelihood alone: too few to say whether it finds more"
    else:
        verdict = f"so the power by maximum likelihood is too {'high' if side > 0 else 'low'} for an analysis by nuts"
    lead = "The sampler nuts and maximum likelihood disagree on detection of"
    return f"{lead} {say_quantity(name)} in {alone} of {studies} simulated studies, {verdict}."


def say_coverage(power: Power) -> list[str]:
    """Say of which quantities intervals are too narrow or too wide, in the design that is recommended or nearest."""
    chosen, nominal, said = size_of(power.recommended or power.best), power.question.asked.probability, []
    for row in power.designs.to_dict("records"):
        if size_of(row) != chosen or row["coverage_low"] <= nominal <= row["coverage_high"]:
            continue
        narrow = row["coverage_high"] < nominal
        said.append(
            f"Intervals of {say_quantity(row['quantity'])} are too {'narrow' if narrow else 'wide'} with "
            f"{power.question.say(chosen)}: they hold the truth in {within(row, 'coverage')} of the studies instead of "
            f"{percent(nominal)}" + ("; power and half widths are flattered." if narrow else ".")
        )
    return said


def say_own(power: Power) -> list[str]:
    """Say what the study's own design gives, of every quantity."""
    question, simulated = power.question, power.designs
    own, measure = question.own, question.measure
    rows = [row for row in simulated.to_dict("records") if size_of(row) == own]
    return [
        f"The study's own design ({question.say(own)}), {say_quantity(row['quantity'])} of "
        f"{measure.width(row['true'])} {measure.short}: power {within(row, 'power')}, mean half width "
        f"{width(question, row, 'half_width')} {measure.short}."
        for row in rows
    ]


def say_failed(power: Power) -> str:
    """Say how many simulated studies had no fit, and how many a singular one."""
    rows = power.wished
    total, failed, singular = (int(rows[name].sum()) for name in ("simulations", "failed", "singular"))
    return (
        f"Of {total:,} simulated studies {failed:,} gave no fit, which counts as not detected, and {singular:,} of the "
        "fits are singular (a variance at zero or a correlation at ±1): where trials are few, variances that are there "
        "are often estimated as none. How often intervals hold the truth is in the column Coverage."
    )


def describe_designs(power: Power) -> str:
    """Return the table of designs as text, a block for each quantity, and what is recommended."""
    blocks, question = [], power.question
    for name in power.question.quantities:
        rows = power.designs[power.designs["quantity"] == name].to_dict("records")
        table = pd.DataFrame(
            [
                {
                    "participants": row["participants"],
                    "trials": row["main"],
                    **({question.items: row["pairs"]} if question.items else {}),
                    "cost": number(row["cost"], 1),
                    "power %": within(row, "power").replace("\u00a0%", ""),
                    "half width": width(question, row, "half_width"),
                    "type S %": within(row, "type_s").replace("\u00a0%", ""),
                    "type M": times(row, "type_m"),
                    "coverage %": within(row, "coverage").replace("\u00a0%", ""),
                    "failed": row["failed"],
                    "singular": row["singular"],
                    "wish": row["verdict"] or "–",
                }
                for row in rows
            ]
        )
        true = question.measure.width(float(rows[0]["true"])) if rows else "–"
        blocks.append(
            f"{say_quantity(name)}, true {true} {question.measure.short} (simulated)\n{table.to_string(index=False)}"
        )
    return "\n\n".join([*blocks, "\n".join(say_recommendation(power))])


def name_size(size: Size) -> str:
    """Return a size, short, for a table or a figure."""
    return f"{size.participants:,} × {size.main}" + (f" × {size.pairs}" if size.pairs else "")


def name_shape(question: Question) -> str:
    """Return what the numbers of `name_size` are."""
    return "participants × trials" + (f" × {question.items}" if question.items else "")
