"""A simulated study on disk: the trials, and a README that says they are simulated and what is true of them.

In: a `Study` with its ``[simulate]`` table.  Out: a trial file and README.md beside it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from psychostats.errors import InputError
from psychostats.features import FeaturesRun
from psychostats.predictor import plural
from psychostats.simulate import write_trials
from psychostats.study import Study

FIRST_LINE = "**Simulated data: no participant in this folder is a person.**"


def write_simulation(
    study: Study, out: Path, *, seed: int | None = None, run: FeaturesRun | None = None
) -> tuple[int, Path]:
    """Simulate a study and write its trials and their README.

    Parameters
    ----------
    study
        Study file with ``[simulate]``.
    out
        Trial file, ``.csv`` or ``.parquet``.
    seed
        Instead of the study file's.
    run
        A features run whose trial lists are answered.

    Returns
    -------
    tuple
        Number of trials, and the README's path.

    Raises
    ------
    InputError
        If the file's ending is unknown, it cannot be written, or a README or trials that are no simulation would be
        replaced.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"{out} ends in '{out.suffix}'; trials are written as .csv or .parquet.")
    readme = out.parent / "README.md"
    try:
        held = readme.read_bytes().decode("utf-8", "replace") if readme.exists() else FIRST_LINE
        if not held.startswith(FIRST_LINE):
            raise InputError(f"{readme} is not of a simulation and would be replaced; give another folder.")
        if out.exists() and f"`{out.name}` holds" not in held:
            raise InputError(f"{out} would be replaced, and no README says that it is simulated; give another file.")
        if readme.exists() and f"`{out.name}` holds" not in held:
            raise InputError(
                f"{readme} says what is true of another simulation and would be lost; give another folder."
            )
        table = study.simulated_trials(seed, run)
        out.parent.mkdir(parents=True, exist_ok=True)
        _replace(out, lambda part: write_trials(table, part))
        text = describe_simulation(study, out.name, table, seed, run)
        _replace(readme, lambda part: part.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}.") from error
    return len(table), readme


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside `path` and move into place, so that no half file is ever found there."""
    handle, name = tempfile.mkstemp(prefix=".part-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        write(part)
        part.chmod(0o644)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def describe_simulation(
    study: Study, file: str, trials: pd.DataFrame, seed: int | None = None, run: FeaturesRun | None = None
) -> str:
    """Return the README of a simulation: its first line, the true parameters, and the source of every setting."""
    table = study.simulate
    assert table is not None
    seed_used = table.seed if seed is None else seed
    given = "" if seed is None else f" --seed {seed}"
    people = trials.drop_duplicates(["experiment", "participant"]).groupby("experiment", sort=False).size()
    each = ", ".join(f"{name} {n}" for name, n in people.items())
    sources = {key: " | ".join(part.replace("|", r"\|") for part in study.source_of(key)) for key in study.told_sources}
    if run is None:
        plan, spec = study.plan(), study.plan().spec
        sorts = f"{plan.main} main, {plan.catch} catch and {plan.practice} practice trials each"
        if not plan.catch and not plan.practice:
            sorts = f"{plan.main} trials each"
        items = "pairs of features" if (plan.condition, plan.item) == ("representation", "pair") else plural(plan.item)
        over = f", over {plan.pairs} {items}" if plan.pairs else ""
        told = [f"{sorts}{over}. Made with seed {seed_used} from `{study.path.name}`"]
        command = f"psychostats simulate --study {study.path.name} --out {file}{given}"
        columns = {name: plan.truth[name] for name in plan.participants}
        with_run = ""
    else:
        shown = table.people()
        assert shown is not None
        spec = shown.spec
        pairs = trials["pair"].nunique()
        told = [
            f"they answer the trial lists of the features run {run.identity}, over {pairs} pairs of features. Made "
            f"with seed {seed_used} from `{study.path.name}`"
        ]
        command = f"psychostats simulate --study {study.path.name} --run RUN --out {file}{given}"
        columns = {"value": shown.truth}
        with_run = " One model holds for all experiments, and a pair's effects are the same in each."
    terms = list(dict.fromkeys(term for values in columns.values() for term in values))
    lines = [
        FIRST_LINE,
        "",
        f"`{file}` holds {len(trials):,} simulated trials of {int(people.sum())} simulated participants in "
        f"{len(people)} experiment{'s' if len(people) > 1 else ''} ({each}): {told[0]}"
        + (f", after {study.study.reference}." if study.study.reference else "."),
        "",
        "```",
        command,
        "```",
        "",
        "## What is true",
        "",
        f"Answers follow `{spec.formula.text}`, {spec.family.describe()}, with these values:{with_run}",
        "",
        "| term | " + " | ".join(columns) + " |",
        "|---|" + "---:|" * len(columns),
        *(
            f"| `{term}` | " + " | ".join(f"{values.get(term, 0.0):g}" for values in columns.values()) + " |"
            for term in terms
        ),
        "",
        _describe_habits(study, run is not None),
        "",
        "## Where the settings come from",
        "",
        "| setting | source | note |",
        "|---|---|---|",
        *(f"| `{key}` | {text} |" for key, text in sources.items()),
        "",
        "Every setting that is not listed is assumed.",
        "",
    ]
    return "\n".join(lines)


def _describe_habits(study: Study, shown: bool) -> str:
    """Say how people fall short of the true model, and what else was recorded of them."""
    table = study.simulate
    assert table is not None
    spec, condition, number = table.spec(), "representation", "depth"
    response = "correct" if shown else spec.formula.response.successes
    if not shown:
        plan = study.plan()
        condition = plan.condition
        number = plan.moderator if plan.at or plan.layers else ""
    kind = "answers" if shown else spec.family.response
    how = {"answers": "at chance", "rating": "with any rating", "positive": "as anybody would to anything"}
    lines, rest = ["Nobody is careless."], "People"
    if table.careless:
        rest = "The others"
        lines = [
            f"In each experiment {table.careless} participants are careless: they answer "
            f"{how.get(kind, how['positive'])}, four times as fast."
        ]
    if response == "correct":
        lines.append(
            f"{rest} are right on {100 * table.catch_accuracy:g}% of catch and {100 * table.practice_accuracy:g}% "
            "of practice trials."
        )
    lines.append(f"{100 * table.missing_rate:g}% of main trials were not recorded.")
    if response != "rt":
        effects = f"{condition} or {number}" if number else condition
        others = "times, sides and confidence carry" if response == "correct" else "they carry"
        lines.append(
            f"Response times are lognormal with median {table.rt_median:g} s; {others} no effect of {effects}."
        )
    return " ".join(lines)
