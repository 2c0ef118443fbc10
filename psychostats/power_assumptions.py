"""What a power analysis assumed: every setting, its value, and whether paper, predecessor or nobody says so.

In: a `Question`.  Out: a section of the report.  Computes nothing.
"""

from __future__ import annotations

import pandas as pd

from psychostats.document import Block, Column, Heading, Paragraph, Table
from psychostats.measure import number
from psychostats.planning import Question


def describe_assumptions(question: Question) -> list[Block]:
    """Return the section about every setting and where it comes from.

    Parameters
    ----------
    question
        Whose settings.
    """
    study, settings = question.study, question.settings
    rows: list[tuple[str, str, str, str]] = []

    def add(key: str, value: object, words: str = "") -> None:
        kind, note = study.source_of(key)
        rows.append((words or f"[{key.partition('.')[0]}] {key.partition('.')[2]}", str(value), kind, note))

    fitted = bool(question.truth.key)
    for term, value in question.truth.sets[0].items() if not question.truth.drawn else ():
        kind, note = ("fit", question.truth.words) if fitted else study.source_of(_truth_key(question, term))
        rows.append((f"truth: {term}", number(value, 3), kind, note))
    if question.truth.drawn:
        rows.append(("truth", "varies", "fit", question.truth.words))
    design = {"participants": question.own.participants, "main": question.own.main, "pairs": question.own.pairs}
    parts = ["participants", "main", "pairs", "catch", "practice", "layers", "at", "assignment"]
    right = question.base.response == "correct"  # else there are neither catch nor practice trials
    absent = {
        "catch": not right,
        "practice": not right,
        "pairs": not question.base.pairs,
        "layers": not question.base.layers,
        "at": not question.base.at,
    }
    for key in (part for part in parts if not absent.get(part)):
        value = design.get(key, getattr(study.design, key))
        add(f"design.{key}", len(value) if isinstance(value, tuple) else value)
    unused = set() if right else {"catch_accuracy", "practice_accuracy"}
    unused |= {"rt_median", "rt_sigma"} if question.base.response == "rt" else set()
    parts = ["careless", "catch_accuracy", "practice_accuracy", "missing_rate", "rt_median", "rt_sigma"]
    for key in (part for part in parts if part not in unused):
        add(f"simulate.{key}", getattr(question.base, key))
    for key, rule in study.exclusions.items():
        add(f"exclusions.{key}", rule)
    model = study.models[0]
    add(f"models.{model.name}.formula", question.procedure.spec.formula.text, "model: formula")
    add(f"models.{model.name}.family", question.procedure.spec.family.describe(), "model: family")
    if model.lapse == "estimate":
        rows.append(("model: lapse", "0", "assumed", "the file estimates it, which maximum likelihood does not"))
    for key in ("quantity", "simulations", "seed", "cost_participant", "cost_trial", "cost_feature"):
        if key == "cost_feature" and not question.items:
            continue
        note = "given by the command" if key in question.given else ""
        rows.append((f"[power] {key}", str(getattr(settings, key)), "assumed", note))
    # A note that holds for several settings in a row stands at the first of them.
    notes = [row[3] if i == 0 or row[3] != rows[i - 1][3] else "as above" * bool(row[3]) for i, row in enumerate(rows)]
    table = pd.DataFrame(rows, columns=["what", "value", "source", "note"]).assign(note=notes)
    return [
        Heading("What was assumed", 1, "assumed"),
        Paragraph(
            f"True model: {question.truth.spec.formula.text}, {question.truth.spec.family.describe()}. Where the truth "
            "comes from: " + question.truth.words + ". Careless people keep their share of the participants."
        ),
        Table(
            (
                Column("what", "Setting"),
                Column("value", "Value"),
                Column("source", "Source"),
                Column("note", "Note"),
            ),
            table,
            "Every setting of the simulations and where it comes from.",
            "Source: the study's paper, its predecessor, a fit, or assumed by us or by the file's author.",
            "table-assumed",
        ),
    ]


def _truth_key(question: Question, term: str) -> str:
    """Return the narrowest key of the study file whose source holds for a true value."""
    told = question.study.told_sources
    keys = [f"simulate.truth.{question.experiment}.{term}", f"simulate.truth.all.{term}"]
    keys += [f"simulate.truth.{question.experiment}", "simulate.truth.all", "simulate.truth"]
    return next((key for key in keys if key in told), "simulate.truth")
