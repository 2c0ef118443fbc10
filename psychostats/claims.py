"""The study's three claims, and what the analysis says of each: the first sentences of the report.

In: an `Analysis` with a joint model, and contributions where a features run was given.  Out: sentences, none stronger
than the table behind it.  Computes no statistic.
"""

from __future__ import annotations

import pandas as pd

from psychostats.analysis import Analysis
from psychostats.document import Link, Strong, Words, prose
from psychostats.joint_section import say_joint
from psychostats.sentences import Row, verdict

_BASES = (("local", "distributed"), ("neuron", "dictionary"))
_WORDS = {"higher": "supported", "lower": "contradicted", "open": "open", "equal": "practically no difference"}


def say_claims(analysis: Analysis) -> list[Words]:
    """Return a sentence a claim; none where the study is of something else, or experiments were fitted apart only."""
    joint, effects = analysis.joint, analysis.study.effects
    if joint is None or not joint.fit.converged or effects.moderator is None:
        return []
    levels = joint.fit.coding.levels[effects.factor]
    if tuple(levels) not in _BASES:
        return []
    first, second = levels
    difference, change = say_joint(analysis)[:2]
    rows = joint.headline
    one = _population(rows[rows["scale"] == "difference"])
    moved = _population(joint.interaction[joint.interaction["scale"] == "difference"])
    claims = [
        (f"{second} features are easier to interpret than {first} ones", _WORDS[verdict(one)], difference),
        (
            f"the more so, the deeper the layer ({effects.moderator})",
            _WORDS[verdict(moved, negligible=False)],
            change,
        ),
    ]
    said: list[Words] = [
        (*prose("Claim {0}, {1}: {2}. ", roman, what, Strong(judged)), *words, *prose(" ({0})", Link("joint")))
        for roman, (what, judged, words) in zip(("(i)", "(ii)"), claims, strict=True)
    ]
    if analysis.contributions is not None:
        claim = f"{second} features contribute more to the network's decision"
        verdicts = analysis.contributions.verdicts
        judged, counts = _count(verdicts["says"]), []
        for method, part in verdicts.groupby("method", sort=False, observed=True):
            yes, no, neither = (int((part["says"] == word).sum()) for word in ("higher", "lower", "open"))
            counts.append(
                f"nulled by {method} {yes} of {len(part)} say so, {no} the opposite and {neither} leave it open"
            )
        said.append(
            prose(
                "Claim (iii), {0}: {1}. Features were nulled in two ways, and the change of the logit was measured in "
                "several: {2}. They are of one network and of the same features, so how many agree is no test. ({3})",
                claim,
                Strong(judged),
                "; ".join(counts),
                Link("contributions"),
            )
        )
    return said


def _count(says: pd.Series[str]) -> str:
    """Return one word for what several measures say."""
    held = set(says) - {"unknown"}
    if not held:
        return "open"
    if {"higher", "lower"} <= held:
        return "undecided, it depends on the measure"
    if "higher" in held:
        return "supported" if held == {"higher"} else "supported by some measures and contradicted by none"
    if "lower" in held:
        return "contradicted" if held == {"lower"} else "contradicted by some measures and supported by none"
    return "open"


def _population(rows: pd.DataFrame) -> Row:
    return rows[rows["target"] == "population"].to_dict("records")[0]
