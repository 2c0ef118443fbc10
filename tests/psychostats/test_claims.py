"""The first sentences say no more than the tables: each claim's verdict is that of its own interval."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
from studies import SMALL

from psychostats.claims import say_claims
from psychostats.joint_section import say_joint
from psychostats.study import read_study


def row(low, high, rope=0.0, **more):
    numbers = {"estimate": (low + high) / 2, "conf_low": low, "conf_high": high, "pd": 0.98, "rope_share": rope}
    return {"target": "population", "conf_level": 0.95, "interval": "eti", "rope_high": 0.02} | numbers | more


def analysis(difference, change, rope=0.0, converged=True):
    """Return what the room reads of an analysis whose two intervals are these."""
    pair = "distributed - local"
    at = [
        row(0.0, 0.1, contrast=pair, scale="difference", experiment=None, depth=end, **{".at": "value"})
        for end in (0, 1)
    ]
    contrasts = [
        row(*difference, rope, contrast=pair, scale="difference", experiment=None, depth=None, **{".at": "mean"}),
        row(
            1.0, 1.5, contrast="distributed / local", scale="odds_ratio", experiment=None, depth=None, **{".at": "mean"}
        ),
        *at,
    ]
    table = pd.DataFrame(contrasts)
    means = pd.DataFrame(
        [
            row(0.7, 0.9, term=f"representation{level}", experiment=None, depth=None)
            for level in ("local", "distributed")
        ]
    )
    maxima = pd.DataFrame({"model": ["joint", "joint_without"], "AIC": [10.0, 12.0], "p_value": [0.1, None]})
    predicted = pd.DataFrame({"model": ["joint", "joint_without"], "elpd": [-5.0, -6.0], "se_diff": [0.0, 1.0]})
    joint = SimpleNamespace(
        fit=SimpleNamespace(
            converged=converged, coding=SimpleNamespace(levels={"representation": ("local", "distributed")})
        ),
        headline=table[table[".at"] == "mean"],
        contrasts=table,
        means=means,
        interaction=pd.DataFrame([row(*change, contrast=f"({pair}) at depth 1 minus at 0", scale="difference")]),
        maxima=maxima,
        predicted=predicted,
    )
    study = read_study(SMALL).model_copy(
        update={"effects": read_study(SMALL).effects.model_copy(update={"at": (0.0, 1.0)})}
    )
    return SimpleNamespace(joint=joint, study=study, contributions=None)


def words(sentence):
    return "".join(getattr(part, "text", "") for part in sentence)


@pytest.mark.parametrize(
    "difference, change, rope, verdicts",
    [
        ((0.01, 0.05), (0.02, 0.2), 0.1, ("supported", "supported")),
        ((-0.05, -0.01), (-0.2, -0.02), 0.1, ("contradicted", "contradicted")),
        ((-0.01, 0.05), (-0.02, 0.2), 0.1, ("open", "open")),
        ((0.001, 0.004), (-0.001, 0.001), 1.0, ("practically no difference", "open")),
    ],
)
def test_a_claim_is_judged_by_its_own_interval(difference, change, rope, verdicts):
    said = [words(one) for one in say_claims(analysis(difference, change, rope))]
    assert len(said) == 2
    for sentence, roman, verdict in zip(said, ("(i)", "(ii)"), verdicts, strict=True):
        assert sentence.startswith(f"Claim {roman}") and f": {verdict}. " in sentence


def test_of_a_model_that_did_not_converge_nothing_is_claimed():
    one = analysis((0.01, 0.05), (0.02, 0.2), converged=False)
    assert say_claims(one) == []
    assert "nothing is concluded" in say_joint(one)[0]


def test_a_study_of_something_else_has_no_such_claims():
    one = analysis((0.01, 0.05), (0.02, 0.2))
    one.joint.fit.coding.levels["representation"] = ("easy", "hard")
    assert say_claims(one) == []
    one.joint = None
    assert say_claims(one) == []
