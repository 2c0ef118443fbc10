"""A simulated study on disk: the trials, and a README that says they are simulated and what is true of them.

In: a `Study` with its ``[simulate]`` table.  Out: a trial file and README.md beside it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from psychostats.errors import InputError
from psychostats.simulate import write_trials
from psychostats.study import Study

FIRST_LINE = "**Simulated data: no participant in this folder is a person.**"


def write_simulation(study: Study, out: Path, *, seed: int | None = None) -> tuple[int, Path]:
    """Simulate a study and write its trials and their README.

    Parameters
    ----------
    study
        Study file with ``[simulate]``.
    out
        Trial file, ``.csv`` or ``.parquet``.
    seed
        Instead of the study file's.

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
        table = study.simulated_trials(seed)
        out.parent.mkdir(parents=True, exist_ok=True)
        _replace(out, lambda part: write_trials(table, part))
        text = describe_simulation(study, out.name, len(table), seed)
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


def describe_simulation(study: Study, file: str, trials: int, seed: int | None = None) -> str:
    """Return the README of a simulation: its first line, the true parameters, and the source of every setting."""
    plan, table = study.plan(), study.simulate
    assert table is not None
    experiments = list(plan.participants)
    sources = {key: " | ".join(part.replace("|", r"\|") for part in study.source_of(key)) for key in study.sources}
    terms = list(dict.fromkeys(term for name in experiments for term in plan.truth[name]))
    lines = [
        FIRST_LINE,
        "",
        f"`{file}` holds {trials:,} simulated trials of {sum(plan.participants.values())} simulated participants in "
        f"{len(experiments)} experiments ({', '.join(f'{name} {n}' for name, n in plan.participants.items())}): "
        f"{plan.main} main, {plan.catch} catch and {plan.practice} practice trials each, over {plan.pairs} pairs of "
        f"features. Made with seed {table.seed if seed is None else seed} from `{study.path.name}`"
        + (f", after {study.study.reference}." if study.study.reference else "."),
        "",
        "```",
        f"psychostats simulate --study {study.path.name} --out {file}" + ("" if seed is None else f" --seed {seed}"),
        "```",
        "",
        "## What is true",
        "",
        f"Answers follow `{plan.spec.formula.text}`, {plan.spec.family.describe()}, with these values:",
        "",
        "| term | " + " | ".join(experiments) + " |",
        "|---|" + "---:|" * len(experiments),
        *(
            f"| `{term}` | " + " | ".join(f"{plan.truth[e].get(term, 0.0):g}" for e in experiments) + " |"
            for term in terms
        ),
        "",
        f"In each experiment {plan.careless} participants are careless: they answer at chance, four times as fast. The "
        f"others are right on {100 * plan.catch_accuracy:g}% of catch and {100 * plan.practice_accuracy:g}% of "
        f"practice trials. {100 * plan.missing_rate:g}% of main trials were not recorded. Response times are lognormal "
        "with median "
        f"{plan.rt_median:g} s; times, sides and confidence carry no effect of representation or depth.",
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
