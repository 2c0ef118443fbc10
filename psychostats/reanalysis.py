"""The reanalysis in order: an old study and new participants into everything the report says of both.

In: a study file (or a fit), and what an experiment wrote of new people.  Out: a `Reanalysis`.  Knows no document.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import pandas as pd

from psychostats.accumulation import accumulate
from psychostats.analysis import by_experiment, file_name, require_analysable, with_feature_effects
from psychostats.errors import DataError, InputError
from psychostats.exclusions import Excluded, apply_exclusions
from psychostats.fit import Fit, fit, load_fit
from psychostats.parts import LeftOut
from psychostats.pooled import POOLED, STUDY, Comparison, Stacked, compare_studies, find_returning, stack_studies
from psychostats.results import ALL
from psychostats.robustness import with_and_without
from psychostats.sampling import Settings
from psychostats.settings import EffectsTable, ModelTable, ReportTable, StudyTable
from psychostats.study import Study
from psychostats.timing import Stopwatch
from psychostats.trials import TrialTable

PEOPLE = ("participant", "subject", "person", "worker", "observer")
"""How the names of groups of people begin."""


@dataclass(frozen=True)
class Side:
    """One of the two studies.

    Parameters
    ----------
    name
        What it is called.
    kept
        Its analysed trials.
    excluded, examined
        What its rules removed and what its check said; None where only its fit is known.
    source
        Where it came from, in words, with hashes.
    robustness
        Its contrast with and without exclusions, as `psychostats.robustness.with_and_without` has it.
    made
        Its fit, where only that is known.
    returning
        Pseudonyms of people who were left out of the new study, since they were in the old one.
    """

    name: str
    kept: pd.DataFrame
    excluded: Excluded | None = None
    examined: TrialTable | None = None
    source: Mapping[str, str] = field(default_factory=dict)
    robustness: pd.DataFrame = field(default_factory=pd.DataFrame)
    made: Fit | None = None
    returning: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reanalysis:
    """Everything the report of a reanalysis says, as tables.

    Parameters
    ----------
    study
        The study file, or what stands for one where only a fit is known.
    old, new
        The two studies.
    stacked
        Their trials in one table.
    comparisons
        One an experiment that both have.
    accumulation
        The contrast as participants were added, by experiment.
    apart
        Experiments that only one of the studies has, which are not compared.
    warnings
        What may make the studies no match for each other.
    seconds
        Of each stage.
    """

    study: Study
    old: Side
    new: Side
    stacked: Stacked
    comparisons: tuple[Comparison, ...]
    accumulation: pd.DataFrame
    apart: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: dict[str, float]

    @property
    def names(self) -> tuple[str, str]:
        """What the studies are called, the old one first."""
        return self.old.name, self.new.name

    @property
    def fits(self) -> dict[tuple[str, str], Fit]:
        """Every fit, by experiment and study."""
        return {(one.experiment, name): made for one in self.comparisons for name, made in one.fits.items()}

    @property
    def converged(self) -> bool:
        """Whether every fit may be read."""
        return all(made.converged for made in self.fits.values())

    @property
    def accuracy(self) -> pd.DataFrame:
        """Raw accuracy: ``experiment, study, <factor>, n, correct, accuracy``; empty where answers are counts."""
        response = next(iter(self.fits.values())).spec.formula.response
        if response.counts:
            return pd.DataFrame()
        parts = []
        for one in self.comparisons:
            rows = self.stacked.rows
            rows = rows if one.experiment == ALL else rows[rows["experiment"].astype(str) == one.experiment]
            by = [STUDY, self.study.effects.factor]
            table = rows.groupby(by, observed=True)[response.successes].agg(n="size", correct="sum").reset_index()
            parts.append(table.assign(experiment=one.experiment, accuracy=table["correct"] / table["n"]))
        return pd.concat(parts, ignore_index=True)

    @property
    def moderator(self) -> str | None:
        """The numeric predictor along which the contrast is followed, if the model has it."""
        return self.study.effects.moderator if any(len(one.interaction) for one in self.comparisons) else None


def exclude(study: Study, name: str, examined: TrialTable, source: Mapping[str, str]) -> Side:
    """Apply the study's exclusions to one of the studies.

    Raises
    ------
    DataError
        With every fault of the trials.
    InputError
        If the effects of the study cannot be taken from what is left.
    """
    if examined.errors:
        raise DataError(examined.errors)
    excluded = apply_exclusions(examined.frame, study.rules(), examined.left_out)
    require_analysable(study, excluded)
    placed = with_feature_effects(study, excluded.kept).placed(excluded.kept)
    return Side(name, excluded.kept, excluded, examined, source, with_and_without(placed, examined, excluded))


def leave_out_returning(examined: TrialTable, old: Side, person: str) -> tuple[TrialTable, tuple[str, ...]]:
    """Leave out of new trials whoever was recorded in the old study, analysed there or not.

    Parameters
    ----------
    examined
        The new trials.
    old
        The old study.
    person
        The column of who answered; keyed pseudonyms alone are of persons.

    Returns
    -------
    tuple of TrialTable and tuple of str
        The trials without them, who are a row of the flow table in each experiment; and their pseudonyms.

    Raises
    ------
    InputError
        If nobody is left.
    """
    before = old.kept if old.examined is None else old.examined.frame
    frame = examined.frame
    if examined.errors or person not in frame or person not in before:
        return examined, ()
    returning = find_returning(before, frame, person)
    if not returning:
        return examined, ()
    back = frame[person].astype(str).isin(returning)
    gone = frame[back]
    parts: list[tuple[str | None, pd.DataFrame]] = [(None, gone)]
    if "experiment" in gone:
        parts = [(str(name), part) for name, part in gone.groupby("experiment", observed=True)]
    left_out = tuple(
        LeftOut(f"people who took part in {old.name}", part[person].nunique(), len(part), name) for name, part in parts
    )
    return replace(examined, frame=frame[~back], left_out=(*examined.left_out, *left_out)), returning


def study_of_fit(path: Path) -> tuple[Study, Side]:
    """Return the study that a fit stands for, and its trials as the fit holds them.

    The contrast is of ``representation``, else of the first factor; its moderator is ``depth``, else the first numeric
    predictor, followed over its range. People are the first group that is called so.

    Raises
    ------
    FitError
        If `path` is no fit.
    InputError
        If nothing can be contrasted in it.
    """
    made = load_fit(path)
    factors, numbers = list(made.coding.levels), list(made.coding.ranges)
    if not factors:
        raise InputError(f"the fit {path} has no factor, so there is no contrast to lay side by side.")
    groups = list(dict.fromkeys(factor for bar in made.spec.formula.bars for factor in bar.factors))
    person = next((name for name in groups if name.startswith(PEOPLE)), groups[0] if groups else None)
    if person is None:
        raise InputError(f"the fit {path} has no group effects, so it does not say who answered.")
    table = made.spec.to_table()
    model = ModelTable(
        name="main",
        formula=table["formula"],
        family=table["family"],
        link=table["link"],
        guess=table["guess"] if table["family"] == "afc" else None,
        lapse=table["lapse"],
        priors=tuple(table["priors"]),
        **(asdict(made.settings) if isinstance(made.settings, Settings) else {}),
    )
    ends = made.coding.ranges
    number = "depth" if "depth" in numbers else next((name for name in numbers if ends[name][0] < ends[name][2]), None)
    study = Study(
        study=StudyTable(name=path.name, title=f"The fit {path.name} and new participants"),
        models=(model,),
        effects=EffectsTable(
            factor="representation" if "representation" in factors else factors[0], moderator=number, at="range"
        ),
        report=ReportTable(group=person),
        path=path,
    )
    source = {"fit": path.name, "data_sha256": str(made.provenance["data"]["sha256"])}
    return study, Side(study.reanalysis.names[0], made.data, source=source, made=made)


def reanalyse(
    study: Study,
    old: Side,
    new: Side,
    fits: Path,
    *,
    reuse: Path | None = None,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Reanalysis:
    """Fit two studies apart and together, and follow the effect as people were added.

    Parameters
    ----------
    study
        The study file, read. Its first model is fitted.
    old, new
        The two studies.
    fits
        Folder for the fits; those already there are used again where nothing changed.
    reuse
        The report of the old study, whose fits are taken where nothing changed.
    progress
        Show the sampler's progress bar; by default on a terminal.
    say
        Called with a line as each step begins.

    Raises
    ------
    InputError
        If the studies have nothing in common that could be compared, or answers are not right or wrong.
    """
    watch = Stopwatch()
    family = study.models[0].spec().family
    if not family.binary:
        raise InputError(f"a reanalysis is about answers that are right or wrong; {family.name} has none.")
    names, person = (old.name, new.name), study.report.group
    stacked = stack_studies(old.kept, new.kept, names=names, person=person)
    if new.returning:
        say(f"{len(new.returning)} of the new people took part in the old study; their new trials are left out")
    study = with_feature_effects(study, stacked.rows).placed(stacked.rows)
    model, effects = study.models[0], study.effects
    shared, apart = _shared_experiments(stacked.rows, names, model)
    warnings = tuple(_warn(stacked.rows, model))
    for line in warnings:
        say(f"  warning: {line}")

    def fit_side(experiment: str, asked: ModelTable, which: str, rows: pd.DataFrame) -> Fit:
        if which == old.name and old.made is not None:
            say(f"{which}: the fit is given and is not fitted again")
            return old.made
        role = "old" if which == old.name else "new" if which == new.name else POOLED
        folder = fits / (role if experiment == ALL else f"{role}_{file_name(experiment)}")
        if role == "old" and reuse is not None:
            _take(reuse / "fits" / f"{asked.name}{'' if experiment == ALL else '_' + file_name(experiment)}", folder)
        if which != POOLED:  # people keep their own ids, so that a fit of the study alone is the same fit
            rows = rows.assign(**{person: rows[person].str.removeprefix(f"{which} ")}).drop(columns=STUDY)
        label = which if experiment == ALL else f"{which}, {experiment}"
        begin = f"fitting {label}: {len(rows):,} trials of {rows[person].nunique()} {person}s"
        engine = "laplace" if old.made is not None and old.made.is_maximum else "auto"
        try:
            made = fit(
                asked.spec(),
                rows,
                engine=engine,
                **asked.lengths(),
                missing="drop",
                out=folder,
                overwrite=True,
                progress=progress,
                on_start=lambda engine, reason: say(begin),
                keep=False,
            )
        except InputError as error:  # which of the two studies cannot be fitted
            raise InputError(f"{label}: {error}") from error
        if role == "old" and reuse is not None and not made.reused:
            say(f"{label}: the fit of {reuse} is of other trials, ids or settings and could not be taken")
        if made.reused:
            say(f"{label}: nothing changed, answered from {folder}; it is not fitted again")
        for warning in made.warnings:
            say(f"  {'warning' if made.converged else 'NOT CONVERGED'}: {warning}")
        return made

    for experiment, rows in shared:
        _require_variation(rows, names, model, experiment)
    comparisons = []
    followed = []
    for experiment, rows in shared:
        with watch.time("fits and effects"):
            comparisons.append(
                compare_studies(
                    experiment,
                    model,
                    effects,
                    rows,
                    names,
                    person,
                    partial(fit_side, experiment),
                )
            )
        with watch.time("accumulation"):
            say("the effect as participants were added" + ("" if experiment == ALL else f", {experiment}"))
            table = accumulate(rows, model, effects, person=person, steps=study.reanalysis.steps, say=say)
            followed.append(table.assign(experiment=experiment))
    accumulation = pd.concat(followed, ignore_index=True)
    return Reanalysis(study, old, new, stacked, tuple(comparisons), accumulation, apart, warnings, watch.stop())


def _warn(rows: pd.DataFrame, model: ModelTable) -> Iterator[str]:
    """Say what may make the studies no match for each other."""
    if "experiment" in rows and "experiment" not in model.spec().formula.variables and rows["experiment"].isna().any():
        held = [str(one) for one in rows["experiment"].dropna().unique()]
        if len(held) > 1:
            yield (
                f"the new trials of several experiments ({', '.join(held)}) are pooled, since the fit names none; "
                "--filter experiment=NAME takes one."
            )


def _shared_experiments(
    rows: pd.DataFrame, names: tuple[str, str], model: ModelTable
) -> tuple[list[tuple[str, pd.DataFrame]], tuple[str, ...]]:
    """Return the experiments that both studies have, with their trials, and the names of the others."""
    if "experiment" in model.spec().formula.variables or "experiment" not in rows or rows["experiment"].isna().any():
        return [(ALL, rows)], ()
    every = by_experiment(rows)
    shared = [(name, part) for name, part in every if part[STUDY].nunique() == len(names)]
    if not shared:
        each = [", ".join(map(str, rows.loc[rows[STUDY] == name, "experiment"].unique())) for name in names]
        raise InputError(
            f"the studies have no experiment in common: {names[0]} has {each[0]}, {names[1]} has {each[1]}."
        )
    return shared, tuple(name for name, part in every if part[STUDY].nunique() < len(names))


def _require_variation(rows: pd.DataFrame, names: tuple[str, str], model: ModelTable, experiment: str) -> None:
    """Refuse a study with one level of a group, before the other is fitted at length."""
    groups = dict.fromkeys(name for bar in model.spec().formula.bars for name in bar.factors)
    where = "" if experiment == ALL else f" in {experiment}"
    for study in names:
        part = rows[rows[STUDY] == study]
        for group in groups:
            if group in part and part[group].nunique() == 1:
                raise InputError(
                    f"{study} has one {group} only{where} that can be analysed, so it cannot be fitted with effects of "
                    f"{group}; give it together with more."
                )


def _take(held: Path, folder: Path) -> None:
    """Copy a fit of the old study's own report, unless one is there already; whether it is the one decides its key."""
    if not folder.exists() and held.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.with_name(f".part-{folder.name}")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(held, part)
        part.replace(folder)
