"""The main job: a study and its trials into every table of the report.

In: a `Study` and a trial file.  Out: an `Analysis`, which holds the exclusions, one fit a model and experiment, and
what follows from each.  Knows no words and no figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from psychostats.contributions import Contributions, compare_contributions
from psychostats.errors import DataError, InputError
from psychostats.exclusions import Excluded, apply_exclusions
from psychostats.feature_study import FeatureStudy, study_features
from psychostats.features import FeaturesRun
from psychostats.fit import Fit, fit
from psychostats.intervals import Interval
from psychostats.joint import Joint, fit_jointly
from psychostats.measure import Measure
from psychostats.opinions import Opinion, hear
from psychostats.recordings import hash_sources, hide_source, name_source
from psychostats.responses import read_response
from psychostats.results import ALL, Result, summarise_fit
from psychostats.robustness import with_and_without
from psychostats.settings import ModelTable
from psychostats.study import Study
from psychostats.timing import Stopwatch
from psychostats.trials import TrialTable


@dataclass(frozen=True)
class Analysis:
    """Everything the report says, as tables.

    Parameters
    ----------
    study
        The study file.
    source
        The trial file's name and SHA-256.
    trials
        The trial file as it was read and filtered, with the warnings of its check.
    excluded
        The analysed trials and the table of what each rule removed.
    catch_accuracy
        Accuracy on catch trials by experiment, before exclusions; empty where there are none.
    accuracy
        Raw accuracy by experiment and factor: trials, correct, accuracy; of another response its sum and its mean,
        under the same names, here and in the tables that follow.
    participants, summary
        Raw accuracy of each participant, and the mean over participants with its interval.
    bins
        Raw accuracy by factor and bins of the moderator.
    results
        One a model and experiment, models first.
    opinions
        Other responses, one a response and experiment.
    joint
        One model of all experiments, where the study asks for it.
    run
        The features run that the stimuli come from, if it was given.
    features
        What was found of single features, by the joint model (the main one where there is one experiment).
    contributions
        What nulling features does to the network's decision.
    robustness
        The headline with and without exclusions, by maximum likelihood; see `psychostats.robustness`.
    seconds
        Of each stage.
    """

    study: Study
    source: dict[str, str]
    trials: TrialTable
    excluded: Excluded
    catch_accuracy: pd.DataFrame
    accuracy: pd.DataFrame
    participants: pd.DataFrame
    summary: pd.DataFrame
    bins: pd.DataFrame
    results: tuple[Result, ...]
    opinions: tuple[Opinion, ...]
    joint: Joint | None
    run: FeaturesRun | None
    features: FeatureStudy | None
    contributions: Contributions | None
    robustness: pd.DataFrame
    seconds: dict[str, float]

    @property
    def experiments(self) -> list[str]:
        """Names, in the order of the study."""
        return list(dict.fromkeys(result.experiment for result in self.results))

    @property
    def main(self) -> tuple[Result, ...]:
        """The results of the first model, which the report is about, an experiment each."""
        return tuple(result for result in self.results if result.model == self.study.models[0])

    @property
    def measure(self) -> Measure:
        """What the first model's response is called, and how its numbers print."""
        return self.study.measure

    @property
    def recorded(self) -> int:
        """Participants that were recorded, those included of whom nothing could be read but the number."""
        return int(self.trials.frame["participant"].nunique()) + self.trials.n_lost

    @property
    def moderator(self) -> str | None:
        """The numeric predictor along which the contrast is followed, if the main model has it."""
        name = self.study.effects.moderator
        return name if name in self.main[0].fit.coding.ranges else None

    @property
    def converged(self) -> bool:
        """Whether every fit may be read."""
        return all(one.converged for one in self.fits)

    @property
    def fits(self) -> list[Fit]:
        """Every fit, those of models first."""
        joint = [self.joint.fit, self.joint.without] if self.joint else []
        return [part.fit for part in self.results] + [part.fit for part in self.opinions] + joint


def analyse(
    study: Study,
    trials: str | Path,
    fits: Path,
    *,
    run: FeaturesRun | None = None,
    key: bytes | None = None,
    export: Path | None = None,
    skip_bad: bool = False,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Analysis:
    """Read, exclude, fit and summarise.

    Parameters
    ----------
    study
        The study file, read.
    trials
        What `psychostats.recordings.read_recordings` reads.
    fits
        Folder for the fits; those already there are used again where nothing changed, so an interrupted job resumes.
    run
        The features run that the stimuli come from: what it knows of them joins the trials.
    key
        The key of participants' pseudonyms; see `psychostats.pseudonyms`.
    export
        A platform's demographic export in place of the one that the study file names.
    skip_bad
        Leave out files and sessions with faults, which the table of exclusions counts, instead of stopping.
    progress
        Show the sampler's progress bar; by default on a terminal.
    say
        Called with a line as each step begins.

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        If the trials cannot be analysed as the study says; every fault is named.
    """
    if run is not None and not study.measure.is_accuracy:
        raise InputError(
            f"a features run is about accuracy, the response 'correct'; that of the study is '{study.measure.column}'."
        )
    watch = Stopwatch()
    name = name_source(trials)
    with watch.time("read and check"):
        say(f"reading {hide_source(trials)}")
        examined = study.examine(trials, run, key=key, export=study.export(export), skip_bad=skip_bad, say=say)
        if examined.errors:
            raise DataError(examined.errors)
        for fault in examined.warnings:
            say(f"  warning: {fault.message}")
        table = examined.frame
        source = {"file": name, "file_sha256": hash_sources(examined.sources)}
        excluded = apply_exclusions(table, study.rules(), examined.left_out)
        kept = excluded.kept
        require_analysable(study, excluded)
        study = with_feature_effects(study, kept).placed(kept)
        if run is not None and study.simulate is not None:  # what [simulate.truth] says is of other trials
            study = study.model_copy(update={"simulate": study.simulate.model_copy(update={"truth": {}})})
        experiments = by_experiment(kept)
        folders = name_folders(study, experiments)
    with watch.time(f"raw {study.measure.bare}"):
        raw = _raw_tables(study, table, kept)
    results: list[Result] = []
    made: list[Fit] = []

    def fit_to(model: ModelTable, experiment: str, rows: pd.DataFrame) -> Fit:
        name = folders[model.name, experiment]

        def begin(engine: str, reason: str) -> None:
            ready = engine != "pymc" or any(not one.reused and one.provenance["engine"] == engine for one in made)
            first = "" if ready else "; the model is compiled first"
            people = f"{rows[study.report.group].nunique()} {study.report.group}s"
            say(f"fitting {name}: {len(rows):,} trials of {people}{first}")

        found = fit(
            model.spec(),
            rows,
            **model.lengths(),
            out=fits / name,
            overwrite=True,
            progress=progress,
            source=source,
            on_start=begin,
            keep=False,
        )
        if found.reused:
            say(f"{name}: nothing changed, answered from {fits / name}")
        for warning in found.warnings:
            say(f"  {'warning' if found.converged else 'NOT CONVERGED'}: {warning}")
        made.append(found)
        return found

    for model in study.models:
        for experiment, rows in experiments:
            one = fit_to(model, experiment, rows)
            with watch.time("effects and checks"):
                results.append(summarise_fit(study, experiment, model, one, rows))
    opinions = hear(study, experiments, fit_to)
    joint = fit_jointly(study, kept, fit_to)
    features, contributions = None, None
    if run is not None:
        whole = joint.fit if joint else results[0].fit if len(experiments) == 1 else None
        with watch.time("single features"):
            features = _features(study, whole, kept, say)
        with watch.time("contributions"):
            contributions = contributions_of(study, run, say)
    with watch.time("with and without exclusions"):
        say("the main model with and without exclusions, by maximum likelihood")
        robustness = with_and_without(study, examined, excluded)
    parts = (opinions, joint, run, features, contributions)
    found = Analysis(study, source, examined, excluded, *raw, tuple(results), *parts, robustness, watch.stop())
    new, stages = [one for one in made if not one.reused], ("compile", "start", "sample", "summarise")
    found.seconds.update({f"fits: {stage}": sum(one.timings.get(stage, 0.0) for one in new) for stage in stages})
    return found


def _features(study: Study, whole: Fit | None, kept: pd.DataFrame, say: Callable[[str], None]) -> FeatureStudy | None:
    """Ask of single features what one model of all trials can say; nothing where pairs have no effects in it."""
    if whole is None or "pair" not in {block.group for block in whole.design.blocks}:
        return None
    return study_features(
        whole,
        kept,
        factor=study.effects.factor,
        threshold=study.effects.threshold,
        say=lambda what: say(f"single features: {what}"),
    )


def contributions_of(study: Study, run: FeaturesRun, say: Callable[[str], None]) -> Contributions | None:
    """Compare the contributions of a run; None where it has none, or there are several networks."""
    if not run.has("contributions"):
        return None
    if len(run.paths) > 1:  # logits and norms of two networks are on scales of their own
        say("contributions of several networks are not compared; give one run to see them")
        return None
    say("contributions to the network's decision")
    matched, selectivity = (run.table(name) if run.has(name) else None for name in ("norm_matched", "selectivity"))
    tables = (run.table(name) for name in ("contributions", "features", "pairs"))
    interval = study.effects.as_interval()
    return compare_contributions(*tables, norm_matched=matched, selectivity=selectivity, interval=interval)


def with_feature_effects(study: Study, kept: pd.DataFrame) -> Study:
    """Add ``(1 | feature)`` to the default formula where pairs share a feature, as neurons may share a direction.

    A formula that the study file writes out is left as it is; the report says what it lacks.
    """
    if not shared_features(kept):
        return study
    models = tuple(
        model
        if "formula" in model.model_fields_set
        else model.model_copy(update={"formula": f"{model.formula} + (1 | feature)"})
        for model in study.models
    )
    joint = study.joint and study.joint.model_copy(
        update={
            key: f"{getattr(study.joint, key)} + (1 | feature)"
            for key in ("formula", "without")
            if key not in study.joint.model_fields_set
        }
    )
    return study.model_copy(update={"models": models, "joint": joint})


def shared_features(kept: pd.DataFrame) -> list[str]:
    """Return the features that belong to more than one pair within an experiment."""
    if not {"feature", "pair"} <= set(kept.columns):
        return []
    apart = ["experiment", "feature"] if "experiment" in kept.columns else ["feature"]
    pairs = kept.groupby(apart, observed=True)["pair"].nunique()
    return sorted({str(key[-1] if isinstance(key, tuple) else key) for key in pairs.index[pairs > 1]})


def require_analysable(study: Study, excluded: Excluded) -> None:
    """Refuse, before any fit, trials that the effects of the study cannot be taken from."""
    for experiment, steps in excluded.flow.groupby("experiment", sort=False):
        emptied = steps.loc[steps["trials_left"] == 0, "step"]
        if len(emptied):
            where = "" if experiment == ALL else f" of experiment '{experiment}'"
            raise InputError(f"no trial{where} is left to analyse; the step '{emptied.iloc[0]}' removed the last.")
    factor, moderator = study.effects.factor, study.effects.moderator
    if pd.api.types.is_numeric_dtype(excluded.kept[factor]):
        raise InputError(
            f"[effects] factor '{factor}' holds numbers; name a column of levels, or give its levels in [levels]."
        )
    by = study.effects.by
    if by and pd.api.types.is_numeric_dtype(excluded.kept[by]):
        raise InputError(f"[effects] by '{by}' holds numbers; name a column of levels.")
    named = moderator in study.models[0].spec().formula.variables
    if named and not pd.api.types.is_numeric_dtype(excluded.kept[str(moderator)]):
        raise InputError(f"[effects] moderator '{moderator}' holds levels; name a column of numbers.")


def name_folders(study: Study, experiments: list[tuple[str, pd.DataFrame]]) -> dict[tuple[str, str], str]:
    """Return the folder of each model and experiment's fit, whose names no two may share."""
    folders = {
        (model.name, name): model.name if name == ALL else f"{model.name}_{file_name(name)}"
        for model in (*study.models, *(opinion.as_model(study.models[0]) for opinion in study.opinions))
        for name, _ in experiments
    }
    folders |= {
        (model.name, ALL): model.name for model in (study.joint.as_models(study.models[0]) if study.joint else ())
    }
    if len({folder.lower() for folder in folders.values()}) < len(folders):
        raise InputError(
            f"the experiments {', '.join(name for name, _ in experiments)} cannot be told apart by their files' names; "
            "rename them in [levels]."
        )
    return folders


def file_name(experiment: str) -> str:
    """Make an experiment's name fit for a file."""
    return "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in experiment)


def by_experiment(kept: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Split the analysed trials by experiment, in the order of its levels."""
    if "experiment" not in kept.columns:
        return [(ALL, kept)]
    return [(str(name), rows) for name, rows in kept.groupby("experiment", observed=True, sort=True)]


def _raw_tables(
    study: Study, table: pd.DataFrame, kept: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return catch accuracy and the raw accuracies, without any model."""
    factor, group, moderator = study.effects.factor, study.report.group, study.effects.moderator
    rows = kept if "experiment" in kept.columns else kept.assign(experiment=ALL)
    whole = table if "experiment" in table.columns else table.assign(experiment=ALL)
    catch = pd.DataFrame(columns=["experiment", "n", "accuracy"])
    if {"catch", "correct"} <= set(whole.columns):
        caught = whole[whole["catch"] & whole["correct"].notna()]
        if "phase" in whole.columns:
            caught = caught[caught["phase"] != "practice"]
        catch = _share(caught, ["experiment"])
    if study.measure.column != "correct":
        rows = rows.assign(correct=responses_of(study, rows))
    accuracy = _share(rows, ["experiment", factor])
    people = _share(rows, ["experiment", factor, group])
    summary = (
        people.groupby(["experiment", factor], observed=True)["accuracy"].agg(["mean", "sem", "size"]).reset_index()
    )
    wald = Interval("wald", study.effects.probability)
    low, high = wald.of_estimate(summary["mean"], summary["sem"])
    summary = summary.assign(estimate=summary["mean"], conf_low=low, conf_high=high, participants=summary["size"])
    bins = pd.DataFrame()
    if moderator is not None and moderator in study.models[0].spec().formula.variables:
        # Bins of as many distinct values each as can be, so that layers are not cut and points weigh about alike.
        groups = np.array_split(np.sort(rows[moderator].unique().astype(float)), study.report.depth_bins)
        starts = [group[0] for group in groups if len(group)]
        binned = rows.assign(bin=np.searchsorted(starts, rows[moderator].astype(float), side="right"))
        bins = _share(binned, ["experiment", factor, "bin"])
        centre = binned.groupby(["experiment", factor, "bin"], observed=True)[moderator].mean().reset_index()
        bins = bins.merge(centre, on=["experiment", factor, "bin"])
    return (
        catch,
        accuracy,
        people,
        summary[["experiment", factor, "participants", "estimate", "conf_low", "conf_high"]],
        bins,
    )


def responses_of(study: Study, rows: pd.DataFrame) -> pd.Series[float]:
    """Return the first model's response of each row as the number that is fitted: 0 or 1, 1 to K, or as measured."""
    spec = study.models[0].spec()
    values, _ = read_response(spec.formula.response, rows, spec.family.response)
    return pd.Series(values, index=rows.index)


def _share(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return trials, correct answers and accuracy by group."""
    table = rows.groupby(by, observed=True)["correct"].agg(n="size", correct="sum").reset_index()
    return table.assign(accuracy=table["correct"] / table["n"])
