"""The report: an analysis into a folder of fits, tables, figures, one HTML file and one PDF.

In: a `Study` and a trial file.  Out: the folder.  Text and numbers come from the rooms below; here they are put on
disk.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from psychostats.analysis import Analysis, analyse, file_name, responses_of
from psychostats.bibliography import to_bibtex
from psychostats.contribution_section import draw_contributions
from psychostats.convergence import ESS_MIN, RHAT_MAX
from psychostats.diagnostics import plot_convergence, plot_ranks
from psychostats.document import Document
from psychostats.effects import ROPE_PROBABILITY
from psychostats.errors import InputError, ReportError
from psychostats.feature_study import CONTRIBUTIONS, draw_feature_figures
from psychostats.features import FeaturesRun
from psychostats.figures import add_note, label_of
from psychostats.flow import plot_flow
from psychostats.intervals import Interval, Rope
from psychostats.joint_section import draw_joint
from psychostats.panels import plot_responses
from psychostats.plots import (
    plot_accuracy,
    plot_accuracy_by_depth,
    plot_contrasts,
    plot_predictive_accuracy,
    plot_predictive_groups,
    plot_prior_predictive,
    plot_terms,
    save_figure,
)
from psychostats.reliability import plot_calibration
from psychostats.rendering import GENERATOR, render_html, render_pdf
from psychostats.results import ALL, Result
from psychostats.sections import compose
from psychostats.study import Study
from psychostats.supplement import works_of
from psychostats.timing import Stopwatch
from psychostats.word import render_docx
from psychostats.works import Entry

TABLES = ("accuracy", "exclusions", "effects", "terms", "checks")
FIGURES = (
    "accumulation",
    "accuracy",
    "balance",
    "calibration",
    "catch_rules_expected",
    "catch_rules_power",
    "cells",
    "contrasts",
    *CONTRIBUTIONS,
    "contributions",
    "convergence",
    "curve",
    "engines",
    "feature_checks",
    "features",
    "flow",
    "flow_new",
    "flow_old",
    "groups",
    "opinions",
    "items",
    "joint",
    "magnitude",
    "lapses",
    "null",
    "participants",
    "power",
    "precision",
    "prior",
    "ranks",
    "shares",
    "sign",
    "singles",
    "studies",
    "verdicts",
    *("specifications", "choices", "dimensions"),  # of a multiverse, numbered
)
DOCUMENTS = ("report.html", "report.pdf", "report.docx", "references.bib")
WHOLE: tuple[str, ...] = ("features", "shares", "contributions", "contribution_terms", "robustness", "files")
WHOLE += ("joint", "joint_terms", "joint_models", "truth")
WHOLE += ("between", "conclusions", "accumulation")  # of a reanalysis
WHOLE += ("specifications", "choices", "dimensions", "summary")  # of a multiverse
WHOLE += ("designs", "simulations", "null", "calibration", "failures")  # of a power analysis
WHOLE += ("lapses", "catch_rules", "catch_break_even", "catch_dismissals")
"""Tables that are of no single experiment."""
_FILES = re.compile(
    rf"({'|'.join(map(re.escape, DOCUMENTS))})|figures/({'|'.join(FIGURES)})(_[0-9]+)?\.(svg|png)"
    rf"|tables/(.+_({'|'.join(TABLES)}|raw)|({'|'.join(WHOLE)}))\.csv|(.*/)?\.[^/]*"
)
_FOLDERS = ("fits", "figures", "tables", "results", "simulations", "lapses")


def write_report(
    study: Study,
    trials: str | Path,
    out: str | Path,
    *,
    run: FeaturesRun | None = None,
    key: bytes | None = None,
    export: Path | None = None,
    skip_bad: bool = False,
    command: str = "",
    progress: bool | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> bool:
    """Analyse trials as a study file says and write the report.

    Parameters
    ----------
    study
        The study file, read.
    trials
        What `psychostats.recordings.read_recordings` reads.
    out
        Folder: ``report.html, report.pdf, report.docx, references.bib, fits/, figures/, tables/``. Fits that are there
        already are used again where nothing changed, so an interrupted report resumes.
    run
        The features run that the stimuli come from: its features, contributions and images join the report.
    key
        The key of participants' pseudonyms; see `psychostats.pseudonyms`.
    export
        A platform's demographic export in place of the one that the study file names.
    skip_bad
        Leave out files and sessions with faults, and count them, instead of stopping.
    command
        What to print as the command that made it.
    progress
        Show the sampler's progress bar; by default on a terminal.
    say
        Called with a line as each step begins.

    Returns
    -------
    bool
        Whether every fit may be read.

    Raises
    ------
    InputError
        If the trials cannot be analysed, or `out` holds something that is no report.
    """
    out = Path(out)
    require_report_folder(out)
    how: dict[str, Any] = {"run": run, "key": key, "export": export, "skip_bad": skip_bad}
    analysis = analyse(study, trials, out / "fits", **how, progress=progress, say=say)
    watch = Stopwatch()
    with part_of(out) as part:
        with watch.time("tables"):
            write_tables(analysis, part / "tables")
        with watch.time("figures"):
            say("drawing figures")
            figures = draw_figures(analysis, part / "figures")
        analysis.seconds.update(watch.stop())
        with watch.time("document"):
            write_documents(compose(analysis, figures, command), works_of(analysis), part, say)
        put_report(part, out)
    say(f"{out / 'report.html'} and {out / 'report.pdf'} written in {sum(analysis.seconds.values()):.0f} s")
    return analysis.converged


@contextlib.contextmanager
def part_of(out: Path) -> Iterator[Path]:
    """Give a folder within `out` in which a report is written until it is whole, and remove what a killed run left."""
    out.mkdir(parents=True, exist_ok=True)
    for stale in out.glob(".part-*"):
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=out) as part:
        yield Path(part)


def write_documents(document: Document, works: tuple[Entry, ...], folder: Path, say: Callable[[str], None]) -> None:
    """Write ``report.html, report.pdf, references.bib`` and, where pandoc is there, ``report.docx`` into a folder."""
    say("writing report.html, report.pdf and report.docx")
    render_html(document, folder / "report.html")
    render_pdf(document, folder / "report.pdf")
    (folder / "references.bib").write_text(to_bibtex(works), encoding="utf-8")
    try:
        render_docx(document, folder / "report.docx")
    except (InputError, ReportError) as error:  # Word is an extra; the others must not be lost with it
        say(f"  warning: report.docx was not written: {error}")


def put_report(part: Path, out: Path) -> None:
    """Put a report that is written whole in place of the one that `out` may hold."""
    # The page goes first: by it a later run knows that the rest may be replaced.
    for name in ("report.html", "tables", "figures", *DOCUMENTS[1:]):
        if (part / name).exists():
            _put(part / name, out / name)
        elif (out / name).is_file():
            (out / name).unlink()  # one of before would be of another report


def write_tables(analysis: Analysis, folder: Path) -> Path:
    """Write ``EXPERIMENT_{accuracy,exclusions,effects,terms,checks}.csv`` for each experiment; return the folder."""
    folder.mkdir(parents=True)
    for experiment in analysis.experiments:
        mine = [result for result in analysis.results if result.experiment == experiment]
        heard = [opinion for opinion in analysis.opinions if opinion.experiment == experiment]
        flow = analysis.excluded.flow
        effects, terms, checks = [], [], []
        for result in mine:
            for table in (
                result.means,
                result.contrasts,
                result.slopes,
                result.interaction,
                result.pattern,
                result.detection,
            ):
                effects.append(table.drop(columns=[".at"], errors="ignore").assign(model=result.model.name))
        for opinion in heard:
            effects += [table.assign(model=opinion.model.name) for table in (opinion.means, opinion.contrasts)]
        fitted = [(one.model.name, one.fit) for one in mine] + [(one.model.name, one.fit) for one in heard]
        for name, made in fitted:
            terms.append(made.terms(interval=analysis.study.effects.as_interval()).assign(model=name))
            checks.append(pd.DataFrame([check.row() for check in made.checks]).assign(model=name))
        parts = {
            **_raw_table(analysis, experiment),
            "exclusions": flow[flow["experiment"].astype(str) == experiment],
            "effects": _stack(effects),
            "terms": _stack(terms),
            "checks": _stack(checks),
        }
        for kind, frame in parts.items():
            frame.to_csv(folder / f"{file_name(experiment)}_{kind}.csv", index=False)
    for name, frame in _whole_tables(analysis).items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return folder


def _raw_table(analysis: Analysis, experiment: str) -> dict[str, pd.DataFrame]:
    """Return the raw accuracies of an experiment as ``accuracy``; of another response its means as ``raw``."""
    table = analysis.accuracy[analysis.accuracy["experiment"].astype(str) == experiment]
    if analysis.measure.is_accuracy:
        return {"accuracy": table}
    sums = {"correct": "yes"} if analysis.measure.is_share else {"correct": "sum"}
    return {"raw": table.rename(columns=sums | {"accuracy": "mean"})}


def _whole_tables(analysis: Analysis) -> dict[str, pd.DataFrame]:
    """Return the tables that are of no single experiment, by name."""
    tables: dict[str, pd.DataFrame] = {"robustness": analysis.robustness}
    if analysis.trials.recordings:
        tables["files"] = pd.DataFrame([asdict(source) for source in analysis.trials.recordings])
    if analysis.joint:
        one = analysis.joint
        parts = [one.means, one.contrasts, one.interaction, one.between, one.dprime]
        # Rows over all experiments have a blank cell there.
        tables["joint"] = pd.concat([part.astype(object) for part in parts if len(part)], ignore_index=True)
        fits = {"joint": one.fit, "joint_without": one.without}
        interval = analysis.study.effects.as_interval()
        tables["joint_terms"] = pd.concat(
            [made.terms(interval=interval).assign(model=name) for name, made in fits.items()], ignore_index=True
        )
        tables["joint_models"] = pd.concat([one.maxima, one.predicted], ignore_index=True)
        if len(one.truth):
            tables["truth"] = one.truth
    if analysis.features:
        tables |= {"features": analysis.features.features, "shares": analysis.features.shares}
    if analysis.contributions:
        found = analysis.contributions
        tables |= {"contributions": found.differences, "contribution_terms": found.terms}
    return tables


def draw_figures(analysis: Analysis, folder: Path) -> dict[str, Path]:
    """Draw every figure of the report; return SVG files by name."""
    folder.mkdir(parents=True)
    effects = analysis.study.effects
    factor, moderator = effects.factor, effects.moderator
    label = effects.as_interval().label
    wald = Interval("wald", effects.probability).label + " over participants only"
    predictive = f"{100 * effects.probability:g} % posterior predictive interval"
    chance = analysis.main[0].fit.spec.family.guess or None
    group = analysis.study.report.group
    measure = analysis.measure
    named = {"quantity": measure.axis}
    drawn: dict[str, Any] = named | {"shares": measure.is_share}
    people = analysis.participants.rename(columns={group: "participant"})

    def stacked(table_of: Callable[[Result], pd.DataFrame | None]) -> pd.DataFrame:
        tables = [(result, table_of(result)) for result in analysis.main]
        return _stack([table.assign(experiment=result.label) for result, table in tables if table is not None])

    cells, persons = stacked(lambda result: result.cells), stacked(lambda result: result.participants)
    items, features = stacked(lambda result: result.items), stacked(lambda result: result.features)
    band = f"{100 * effects.probability:g} % of data drawn from these predictions, at each by itself"
    terms = stacked(lambda result: result.fit.terms(interval=effects.as_interval()))
    plots = {
        "flow": plot_flow(analysis.excluded.flow),
        "accuracy": plot_accuracy(people, analysis.summary, factor=factor, interval_label=wald, chance=chance, **drawn),
        "contrasts": plot_contrasts(
            _forest(analysis),
            null=0.0,
            rope=Rope(100 * ROPE_PROBABILITY.low, 100 * ROPE_PROBABILITY.high) if measure.is_share else None,
            x_label=_axis(analysis),
            interval_label=label,
        ),
        "prior": plot_prior_predictive(_priors(analysis), factor=factor, chance=chance, **drawn),
        "participants": plot_predictive_groups(persons, group=group, interval_label=predictive, **named),
        "convergence": plot_convergence(terms, limits={"rhat": RHAT_MAX, "ess_bulk": ESS_MIN, "ess_tail": ESS_MIN}),
        "ranks": plot_ranks(_fixed_draws(analysis)),
    }
    calibrated = stacked(lambda result: result.calibration)
    if len(calibrated):
        words = {} if measure.is_accuracy else dict.fromkeys(("outcome", "share"), f"{measure.column} = 1")
        words |= {"share": f"of {words['share']}"} if words else {}
        plots["calibration"] = plot_calibration(calibrated, interval_label=band, **words)
    if analysis.joint:
        plots["joint"] = draw_joint(analysis, _axis(analysis))
    if analysis.opinions:
        responses, contrast = _responses(analysis)
        plots["opinions"] = plot_responses(responses, contrast=contrast, interval_label=label)
    if (terms["class"] != "b").any():
        plots["groups"] = plot_terms(terms, interval_label=label)
    if len(items):
        plots["items"] = plot_predictive_groups(items, group=str(items.columns[0]), interval_label=predictive, **named)
    if len(features):
        plots["feature_checks"] = plot_predictive_groups(features, group="feature", interval_label=predictive, **named)
    if moderator and len(analysis.main[0].curve):
        curve = stacked(lambda result: result.curve)
        labels = {result.experiment: result.label for result in analysis.main}
        plots["curve"] = plot_accuracy_by_depth(
            analysis.bins.assign(experiment=analysis.bins["experiment"].astype(str).map(labels)),
            curve,
            factor=factor,
            by=moderator,
            interval_label=label,
            chance=chance,
            **drawn,
            **_shown(analysis, moderator, labels),
        )
    by = next((name for name in cells.columns if name in ("layer", moderator)), None)
    if by:
        plots["cells"] = plot_predictive_accuracy(cells, factor=factor, by=by, interval_label=predictive, **named)
    if analysis.features:
        plots |= draw_feature_figures(analysis.features, chance=chance)
    # A figure may travel alone, so it says itself who took part.
    note = "Simulated participants." if analysis.study.study.simulated else ""
    plots = {name: add_note(plot, note) for name, plot in plots.items()}
    if analysis.contributions:  # of the network alone; no one took part in them
        plots |= draw_contributions(analysis.contributions)
    # Word takes the PNGs.
    return {name: save_figure(plot, folder / name, png=True) for name, plot in plots.items()}


def _shown(analysis: Analysis, moderator: str, labels: dict[str, str]) -> dict[str, Any]:
    """Return the raw accuracy of each thing shown at each level, and what it is called; nothing where none is named."""
    kept, factor = analysis.excluded.kept, analysis.study.effects.factor
    if analysis.measure.column != "correct":
        kept = kept.assign(correct=responses_of(analysis.study, kept))
    items = next((result.items for result in analysis.main if result.items is not None), None)
    if items is None:
        return {}
    item = str(items.columns[0])
    rows = kept if "experiment" in kept.columns else kept.assign(experiment=ALL)
    by = ["experiment", factor, item]
    table = rows.groupby(by, observed=True).agg(
        n=("correct", "size"), accuracy=("correct", "mean"), **{moderator: (moderator, "mean")}
    )
    table = table.reset_index()
    table["experiment"] = table["experiment"].astype(str).map(labels)
    return {"items": table, "item": f"{item} at each level" if item == "pair" else item}


def _priors(analysis: Analysis) -> pd.DataFrame:
    """Return the prior predictive draws, once where the priors are the same in every experiment."""
    first = analysis.main[0]
    if all(result.fit.priors == first.fit.priors for result in analysis.main):
        return first.prior
    return _stack([result.prior.assign(experiment=result.experiment) for result in analysis.main])


def _forest(analysis: Analysis) -> pd.DataFrame:
    """Return the differences of the main model in percentage points, labelled by contrast and moderator."""
    moderator = analysis.study.effects.moderator
    parts = []
    for result in analysis.main:
        table = result.contrasts[result.contrasts["scale"] == "difference"].copy()
        names = table["contrast"].str.replace(" - ", " − ")
        if ".at" in table:
            values = table[moderator].map(lambda at: "mean" if pd.isna(at) else f"{at:.3g}")
            place = f"{moderator} " + values
            names = place if table["contrast"].nunique() == 1 else names + ", " + place
        for name in ("estimate", "conf_low", "conf_high"):
            table[name] = analysis.measure.factor * table[name]
        parts.append(table.assign(label=names, experiment=result.label))
    return _stack(parts)


def _responses(analysis: Analysis) -> tuple[pd.DataFrame, str]:
    """Return the first contrast on every response, accuracy first and in percentage points, and its name."""
    first = analysis.main[0].headline["contrast"].iloc[0].replace(" / ", " - ")
    measure = analysis.measure
    words = f"{measure.bare} ({measure.unit or '% points'})"
    found = [(words, one.experiment, one.fit, measure.factor * _figures(one.headline)) for one in analysis.main]
    found += [(one.asked.words, one.experiment, one.fit, _figures(one.headline)) for one in analysis.opinions]
    table = _stack(
        [
            rows.iloc[:1].assign(response=words, experiment=name, converged="yes" if made.converged else "no")
            for words, name, made, rows in found
        ]
    )
    table["response"] = pd.Categorical(table["response"], list(dict.fromkeys(table["response"])))
    return table, first.replace(" - ", " − ")


def _figures(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of the differences in the population."""
    wanted = rows[(rows["scale"] == "difference") & (rows["target"] == "population")]
    return wanted[["estimate", "conf_low", "conf_high"]]


def _axis(analysis: Analysis) -> str:
    """Name the axis of the differences; where there is one contrast only, by it."""
    contrasts = analysis.main[0].headline["contrast"].str.replace(" / ", " - ").unique()
    what = label_of(contrasts[0].replace(" - ", " − "), 90) if len(contrasts) == 1 else "Difference"
    named = f"{analysis.measure.bare} ({analysis.measure.units})"
    return f"{what}: {named}" if len(what) + len(named) < 80 else f"{what}:\n{named}"


def _fixed_draws(analysis: Analysis) -> pd.DataFrame:
    """Return the draws of the fixed effects, and of the SD or correlation that mixed worst, in long form."""
    others = pd.concat([result.fit.terms() for result in analysis.main])
    others = others[others["class"] != "b"].sort_values("ess_bulk")
    worst = list(others["term"].head(1))
    parts = []
    for result in analysis.main:
        flat = result.fit.draws_table.flat()
        names = [name for name in flat.columns if name.startswith("b_") or name in worst]
        long = flat.melt([".chain", ".iteration"], names, "term", "value")
        long = long.rename(columns={".chain": "chain", ".iteration": "draw"})
        terms = long["term"].str.removeprefix("b_").str.replace("__", " ")
        parts.append(long.assign(experiment=result.label, term=terms))
    return _stack(parts)


def _stack(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Stack tables, keeping the order of experiments as given."""
    filled = [part for part in parts if len(part)]
    table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    if "experiment" in table:
        names = list(dict.fromkeys(table["experiment"].astype(str)))
        table["experiment"] = pd.Categorical(table["experiment"].astype(str), categories=names)
    return table


def require_report_folder(out: Path) -> None:
    """Refuse a folder with anything in it that this room would not write, since what it writes it also replaces.

    Pages, figures and tables are replaced only beside a page that says that a report made it; what begins with a dot,
    and the fits, which look after themselves, may be there without one.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder for the report.")
    page = out / "report.html"
    ours = page.is_file() and GENERATOR in page.read_text(encoding="utf-8", errors="replace")[:2000]
    for folder in [path for path in (out, out / "figures", out / "tables") if path.is_dir() and not path.is_symlink()]:
        for path in sorted(folder.iterdir()):
            name = path.relative_to(out).as_posix()
            hidden = path.name.startswith(".")
            known = _FILES.fullmatch(name) and path.is_file() and (ours or hidden)
            known = known or (name in _FOLDERS and path.is_dir() and not path.is_symlink())
            if not (known or (hidden and path.is_dir())):
                raise InputError(f"{out} holds '{name}', which is no part of a report; give another folder.")


def _put(new: Path, old: Path) -> None:
    """Put a file or folder in place of an old one."""
    if old.is_dir():
        shutil.rmtree(old)
    new.replace(old)
