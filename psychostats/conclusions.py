"""Did the new data change the conclusion? A verdict on the old study, the new one, and both together.

In: a `Reanalysis`.  Out: a tidy table, and a sentence an experiment and question whose every number is a cell of its
tables, rounded.  Computes no statistic.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import pandas as pd

from psychostats.document import Strong, Words, prose
from psychostats.measure import points_interval
from psychostats.pooled import POOLED, STUDY, Comparison
from psychostats.reanalysis import Reanalysis
from psychostats.results import ALL
from psychostats.sentences import Verdict, verdict

Outcome: TypeAlias = Literal["stands", "open", "settled", "reopened", "changed", "unknown"]

_OUTCOMES: dict[str, str] = {
    "stands": "the conclusion stands",
    "open": "what was open is open still",
    "settled": "what was open is settled now",
    "reopened": "what the old study concluded is open again",
    "changed": "the conclusion has changed",
    "unknown": "nothing is concluded, since a fit did not converge",
}


def judge(old: Verdict, pooled: Verdict) -> Outcome:
    """Say what became of a conclusion when new data joined the old: what it was, and what it is of both together."""
    if old == pooled:
        return "open" if old == "open" else "stands"
    if old == "open":
        return "settled"
    return "reopened" if pooled == "open" else "changed"


def conclude(found: Reanalysis) -> pd.DataFrame:
    """Judge every contrast of every experiment, and its change along the moderator.

    Parameters
    ----------
    found
        The reanalysis.

    Returns
    -------
    DataFrame
        ``experiment, question`` (``contrast`` or ``change``)``, contrast, old, new, pooled`` (``higher``, ``lower``,
        ``equal`` or ``open``, the first two where the interval excludes zero; None of a fit that did not converge)``,
        contradicted`` (whether each study by itself says the opposite of the other)``, between`` (the verdict on new
        minus old; of the contrast alone)``, outcome``.
    """
    rows = []
    for one in found.comparisons:
        for question, table in (("contrast", _headline(one)), ("change", one.interaction)):
            if not len(table):
                continue
            wanted = table[(table["target"] == "population") & (table["scale"] == "difference")]
            for contrast, part in wanted.groupby("contrast", sort=False):
                said = {
                    str(row[STUDY]): verdict(row, negligible=question == "contrast") for row in part.to_dict("records")
                }
                # A fit that may not be read says nothing.
                told = [said[name] if one.fits[name].converged else None for name in (*found.names, POOLED)]
                between = _between(one, str(contrast))
                rows.append(
                    {
                        "experiment": one.experiment,
                        "question": question,
                        "contrast": contrast,
                        "old": told[0],
                        "new": told[1],
                        "pooled": told[2],
                        "contradicted": {told[0], told[1]} == {"higher", "lower"},
                        "between": verdict(between) if question == "contrast" and told[2] else None,
                        "outcome": judge(said[found.old.name], said[POOLED]) if one.converged else "unknown",
                    }
                )
    return pd.DataFrame(rows)


def say_conclusions(found: Reanalysis, judged: pd.DataFrame) -> list[Words]:
    """Return a sentence a row of `conclude`: what was said, what is said now, and how the studies differ."""
    comparisons = {one.experiment: one for one in found.comparisons}
    sentences: list[Words] = []
    for row in judged.to_dict("records"):
        one = comparisons[row["experiment"]]
        where = "" if one.experiment == ALL else f"{one.experiment}: "
        what = str(row["contrast"]).replace(" - ", " − ")
        if row["outcome"] == "unknown":
            sentences.append(prose("{0}{1}: nothing is concluded, since a fit did not converge.", Strong(where), what))
            continue
        table = one.interaction if row["question"] == "change" else _headline(one)
        cells = {str(cell[STUDY]): cell for cell in _differences(table, str(row["contrast"]))}
        old, new = found.names
        words = prose(
            "{where}{what}: {outcome}. {old} {a} ({said_old}), {new} {b} ({said_new}), both together {c} ({said}).",
            where=Strong(where),
            what=what,
            outcome=Strong(_OUTCOMES[row["outcome"]]),
            old=old.capitalize(),
            new=new,
            a=points_interval(cells[old]),
            b=points_interval(cells[new]),
            c=points_interval(cells[POOLED]),
            said_old=row["old"],
            said_new=row["new"],
            said=row["pooled"],
        )
        if row["question"] == "contrast":
            words = (*words, *_say_between(found, one, str(row["contrast"]), row["between"]))
        if row["contradicted"]:
            words = (*words, *prose(" Each study by itself says the opposite of the other."))
        sentences.append(words)
    return sentences


def describe_conclusions(found: Reanalysis, judged: pd.DataFrame) -> str:
    """Return the sentences of `say_conclusions` as lines for a terminal."""
    lines = [
        words if isinstance(words, str) else "".join(str(getattr(run, "text", "")) for run in words)
        for words in say_conclusions(found, judged)
    ]
    if not found.converged:
        lines.insert(0, "NOT CONVERGED: numbers of some fits may not be read.")
    return "\n".join(lines)


def _say_between(found: Reanalysis, one: Comparison, contrast: str, judged: str) -> Words:
    size = points_interval(_between(one, contrast))
    words = {
        "higher": " The difference is larger in {new} than in {old}, by {size} points.",
        "lower": " The difference is smaller in {new} than in {old}: {size} points.",
        "equal": " The studies differ by {size} points, which is practically nothing.",
        "open": " Whether the studies differ remains open: {new} minus {old} is {size} points.",
    }[judged]
    old, new = found.names
    return prose(words, old=old, new=new, size=size)


def _headline(one: Comparison) -> pd.DataFrame:
    return one.contrasts[one.contrasts[".at"] == "mean"]


def _differences(table: pd.DataFrame, contrast: str) -> list[dict[str, Any]]:
    wanted = (table["target"] == "population") & (table["scale"] == "difference") & (table["contrast"] == contrast)
    return [{str(key): value for key, value in row.items()} for row in table[wanted].to_dict("records")]


def _between(one: Comparison, contrast: str) -> dict[str, Any]:
    """Return the row of how a contrast differs between the studies."""
    table = one.between[one.between["contrast"].str.startswith(f"({contrast}) at ")]
    found = _differences(table, str(table["contrast"].iloc[0])) if len(table) else []
    return found[0] if found else {}
