"""The opening of the report: what must be said before anything else, and the summary.

In: an `Analysis`.  Out: boxes of notices, and one sentence a finding.  Picks the rows; the words of findings are of
sentences.py.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pandas as pd

from psychostats.analysis import Analysis
from psychostats.checks import below_guess
from psychostats.document import BulletList, Callout, Link, Paragraph, Strong, Words, prose
from psychostats.measure import number
from psychostats.opinions import Opinion
from psychostats.results import ALL, Result
from psychostats.sentences import say_detection, say_difference, say_interaction, say_overall
from psychostats.study import SOURCES

#: With more contrasts than one, sentences a contrast and experiment up to this many; beyond, the tables say it better.
_SENTENCES_MOST = 8
_FEATURES = ("local", "distributed", "neuron", "dictionary")


def notices(analysis: Analysis) -> tuple[Callout, ...]:
    """Return what a reader must know first: fits that may not be read, models that do not fit, and who took part."""
    return tuple(box for box in (_failed(analysis), _misfits(analysis), _simulated(analysis), _check(analysis)) if box)


def _failed(analysis: Analysis) -> Callout | None:
    parts = [(name_of(part), part.fit) for part in analysis.results]
    parts += [(name_of(opinion), opinion.fit) for opinion in analysis.opinions]
    if analysis.joint:
        parts += [("joint", analysis.joint.fit), ("joint, without the change", analysis.joint.without)]
    failed = [(name, made) for name, made in parts if not made.converged]
    if not failed:
        return None
    items = [prose("{0}: {1}", Strong(name), " ".join(made.warnings)) for name, made in failed]
    advice = (
        "Draws and warm-up are set by draws and tune in each [[models]] table of the study file. {0} lists every "
        "figure and its limit; {1} says what they mean."
    )
    return Callout(
        "danger",
        "Not converged: the numbers of these fits may not be read",
        (BulletList(tuple(items)), Paragraph(prose(advice, Link("convergence"), Link("reading")))),
    )


def _misfits(analysis: Analysis) -> Callout | None:
    items: list[Words] = []
    for result in analysis.main:
        for row in result.predictive[result.predictive["misfit"]].to_dict("records"):
            items.append(
                prose(
                    "{0}: {1} of {2} groups by {3} lie outside their posterior predictive interval, where at most {4} "
                    "may.",
                    Strong(name_of(result)),
                    int(row["groups"] - row["inside"]),
                    int(row["groups"]),
                    str(row["what"]),
                    int(row["allowed"]),
                )
            )
        guess, factor = result.fit.spec.family.guess, analysis.study.effects.factor
        mine = analysis.accuracy[analysis.accuracy["experiment"].astype(str) == result.experiment]
        below = below_guess(mine, guess) if analysis.measure.is_share else mine.iloc[:0]
        for row in below.to_dict("records"):
            items.append(
                prose(
                    "{0}: observed accuracy at {1} {2} is {3}, below the guess rate {4}, which this model cannot "
                    "produce; check how answers are coded.",
                    Strong(name_of(result)),
                    factor,
                    str(row[factor]),
                    number(row["accuracy"], 3),
                    f"{guess:g}",
                )
            )
    if not items:
        return None
    words = prose(
        "Estimates of a model that misses its own data should not be used. {0} shows where.", Link("predictive")
    )
    return Callout("danger", "The model does not fit these trials", (BulletList(tuple(items)), Paragraph(words)))


def _simulated(analysis: Analysis) -> Callout | None:
    study = analysis.study
    if not study.study.simulated:
        return None
    kinds = [kind for kind, _ in sources_of(analysis).values()]
    reference = study.study.reference
    words = (
        "No participant in this report is a person. Answers were generated from true values that we chose. Nothing "
        f"here is evidence about people{f', or about the results of {reference}' if reference else ''}."
    )
    if kinds:
        paper, predecessor, assumed = (kinds.count(kind) for kind in SOURCES)
        words += (
            f" Of {len(kinds)} settings with a source, {paper} are the paper's, {predecessor} a predecessor's and "
            f"{assumed} assumed."
        )
    return Callout("warning", "Simulated participants", (Paragraph(words),))


#: Settings that say nothing of these trials: without a features run, and with one.
_OTHERS = {
    False: frozenset({"simulate.shown"}),
    True: frozenset({"design.pairs", "design.layers", "simulate.truth"}),
}


def sources_of(analysis: Analysis) -> dict[str, tuple[str, str]]:
    """Return the source and the note of every setting that these trials depend on, by its dotted key."""
    study, run = analysis.study, analysis.run
    unsaid = {*_OTHERS[run is not None], *(f"exclusions.{rule}" for rule in analysis.excluded.not_applied)}
    told = {key: study.source_of(key) for key in study.told_sources if key not in unsaid}
    for record in run.records if run else ():
        for key, text in record.get("sources", {}).items():
            kind, _, note = str(text).partition(":")
            told.setdefault(key, (kind.strip(), note.strip()))
    return told


def _check(analysis: Analysis) -> Callout | None:
    if not analysis.trials.warnings:
        return None
    items = tuple(fault.message for fault in analysis.trials.warnings)
    return Callout("warning", "The check of the trials warns", (BulletList(items),))


def name_of(result: Result | Opinion) -> str:
    """Name a fit: its model, and its experiment where there are several."""
    return result.model.name if result.experiment == ALL else f"{result.model.name}, {result.experiment}"


def groups_of(analysis: Analysis) -> list[str]:
    """Return the grouping factors of the main model."""
    return list(dict.fromkeys(block.group for block in analysis.main[0].fit.design.blocks))


def summary_sentences(analysis: Analysis) -> list[Words]:
    """Return the sentences of the summary; every number in them is a cell of a table, rounded.

    Of a fit that did not converge nothing is concluded, and none of its numbers is given.
    """
    study, moderator = analysis.study.effects, analysis.moderator
    sentences: list[Words] = []
    differences: dict[str, list[dict[str, Any]]] = {}
    changes: dict[str, list[dict[str, Any]]] = {}
    several = len(analysis.experiments) > 1
    for result in analysis.main:
        name = result.experiment if several else ""
        if not result.fit.converged:
            where = prose("In {0}, the", Strong(name)) if name else prose("The")
            sentences.append((*where, *prose(" fit did not converge: nothing is concluded from it.")))
            continue
        rows = _population(result.headline)
        means = _population(result.means)
        if moderator:
            means = means[means[moderator].isna()]
        factor_levels = result.fit.coding.levels[study.factor]
        noun = "features" if set(factor_levels) <= set(_FEATURES) else ""
        for first, second in combinations(factor_levels, 2):
            pair, levels = f"{second} - {first}", (first, second)
            difference = _one(rows, scale="difference", contrast=pair)
            odds = {"scale": "odds_ratio", "contrast": f"{second} / {first}"}
            ratio = _one(rows, **odds) if result.fit.spec.family.binary else None
            both = (_one(means, **{study.factor: first}), _one(means, **{study.factor: second}))
            differences.setdefault(pair, []).append(difference)
            sentences.append(say_difference(name, levels, both, difference, ratio, noun, analysis.measure))
            if len(result.detection):
                sentences.append(_detected(name, result, moderator, study.places if moderator else ()))
            if moderator is None:
                continue
            at = _population(result.contrasts).dropna(subset=[moderator])
            ends = (study.places[0], study.places[-1])
            low, high = (_one(at, scale="difference", contrast=pair, **{moderator: end}) for end in ends)
            moved = _population(result.interaction)
            change = _one(moved[moved["contrast"].str.startswith(f"({pair})")], scale="difference")
            changes.setdefault(pair, []).append(change)
            sentences.append(say_interaction(name, levels, moderator, ends, (low, high), change, analysis.measure))
    of = "experiments" if all(result.fit.converged for result in analysis.main) else "experiments that converged"
    overall: list[Words] = []
    for pair, rows_of_pair in differences.items():
        name = pair.replace(" - ", " − ")
        overall.append(say_overall(rows_of_pair, f"the difference in {analysis.measure.noun} {name}", of=of))
        if pair in changes:
            what = f"the change of {name} with {moderator}"
            overall.append(say_overall(changes[pair], what, negligible=False, of=of))
    overall = [words for words in overall if words]
    if len(differences) > 1 and len(sentences) > _SENTENCES_MOST:
        tables = prose("{0} gives every contrast in every experiment", Link("table-contrasts"))
        more = prose(", {0} its change with {1}", Link("table-interaction"), moderator) if moderator else ()
        sentences = [(*tables, *more, *prose("."))]
    if len(differences) > 1:
        sentences.append("Intervals are not adjusted for the number of contrasts.")
    return [_who(analysis), *overall, *sentences]


def _detected(name: str, result: Result, moderator: str | None, places: tuple[float, ...]) -> Words:
    """Say d' and the criterion of a result: with the moderator at its mean, and d' at its ends."""
    table = result.detection
    at_mean = table[table[moderator].isna()] if moderator else table
    dprime, criterion = (_one(at_mean, scale=scale) for scale in ("dprime", "criterion"))
    if not moderator:
        return say_detection(name, dprime, criterion)
    ends = [(at, _one(table, scale="dprime", **{moderator: at})) for at in (places[0], places[-1])]
    return say_detection(name, dprime, criterion, moderator, ends)


def _who(analysis: Analysis) -> Words:
    """Say how many took part and how many trials were analysed."""
    flow = analysis.excluded.flow
    kept = flow[flow["step"] == flow["step"].iloc[-1]]
    each = ", ".join(f"{row.participants_left} in {row.experiment}" for row in kept.itertuples())
    return prose(
        "{0} of {1} {2}participants{3} and {4} trials were analysed.",
        analysis.excluded.kept["participant"].nunique(),
        analysis.recorded,
        "simulated " if analysis.study.study.simulated else "",
        f" ({each})" if len(kept) > 1 else "",
        int(kept["trials_left"].sum()),
    )


def _population(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["target"] == "population"]


def _one(rows: pd.DataFrame, **wanted: Any) -> dict[str, Any]:
    """Return the one row with the wanted values."""
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    found = rows.to_dict("records")
    assert len(found) == 1, f"{len(found)} rows for {wanted}"
    return {str(key): value for key, value in found[0].items()}
