"""Rows of effect tables into plain sentences: the direction, the size, the uncertainty.

In: rows that `psychostats.effects` made.  Out: words whose every number is a cell of those rows, rounded.  Knows no
document layout; a sentence is what `psychostats.document.prose` returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from psychostats.document import Inline, Strong, format_value, prose
from psychostats.measure import ACCURACY, Measure, number, percent
from psychostats.predictor import plural

Row: TypeAlias = Mapping[Any, Any]
Verdict: TypeAlias = Literal["higher", "lower", "equal", "open"]

# How much of the posterior must lie within the region of practical equivalence to call two things practically equal.
ROPE_DECISIVE = 0.95


def verdict(row: Row, *, negligible: bool = True) -> Verdict:
    """Judge a difference: its interval lies on one side of zero, or nearly all of it is negligible, or it is open.

    Negligible goes first, since a tiny difference that is known very well is both; it is not asked for (`negligible`)
    where the region of practical equivalence was set for another quantity.
    """
    if negligible and row["rope_share"] >= ROPE_DECISIVE:
        return "equal"
    if row["conf_low"] > 0:
        return "higher"
    return "lower" if row["conf_high"] < 0 else "open"


def estimate(row: Row, digits: int = 2) -> str:
    """Print an estimate with its interval, ``0.46 [0.10, 0.82]``."""
    low, high = number(row["conf_low"], digits), number(row["conf_high"], digits)
    return f"{number(row['estimate'], digits)} [{low}, {high}]"


def share(value: float) -> str:
    """Print a posterior probability; one that rounds to 1 is only known to be above the last digit."""
    text = number(value, 3)
    return "> 0.999" if text == "1.000" else text


def say_difference(
    experiment: str,
    levels: tuple[str, str],
    means: tuple[Row, Row],
    difference: Row,
    odds_ratio: Row | None,
    noun: str = "",
    measure: Measure = ACCURACY,
) -> tuple[Inline, ...]:
    """Say how the accuracies, or the means of another response, of two levels differ.

    Parameters
    ----------
    experiment
        Its name, or an empty text where there is one only.
    levels
        The earlier level and the later one; the difference is later minus earlier.
    means
        Their rows of marginal means, in that order.
    difference, odds_ratio
        Their rows of contrasts on the scales ``difference`` and ``odds_ratio``; no odds ratio of a response that is
        no answer, which has no region of practical equivalence either.
    noun
        What the levels are kinds of, for example ``features``.
    measure
        What the response is called.
    """
    first, second = levels
    what, units = _literal(measure.noun), _literal(measure.units)
    words = {
        "higher": f"{what} was higher for {{second}} than for {{first}}{{noun}}",
        "lower": f"{what} was lower for {{second}} than for {{first}}{{noun}}",
        "equal": f"{what} was practically equal for {{second}} and {{first}}{{noun}}",
        "open": f"whether {what} differs between {{second}} and {{first}}{{noun}} remains open",
    }[verdict(difference)]
    known: dict[str, Inline | str] = {
        "experiment": Strong(experiment),
        "first": first,
        "second": second,
        "noun": f" {noun}" if noun else "",
        "a": measure.value(means[0]["estimate"]),
        "b": measure.value(means[1]["estimate"]),
        "diff": Strong(measure.difference(difference["estimate"])),
        "label": _label(difference),
        "low": measure.difference(difference["conf_low"]),
        "high": measure.difference(difference["conf_high"]),
        "pd": share(difference["pd"]),
    }
    said = _opening(experiment, words) + (
        f": {{b}} against {{a}}, a difference of {{diff}} {units} ({{label}} {{low}} to {{high}}; probability "
        "of direction {pd}"
    )
    if odds_ratio is None:
        return prose(said + ").", **known)
    return prose(
        said + "; {rope} of the posterior within {margin} points; odds ratio {ratio}).",
        **known,
        rope=percent(difference["rope_share"]),
        margin=f"±{number(100 * difference['rope_high'], 0)}",
        ratio=estimate(odds_ratio),
    )


def say_interaction(
    experiment: str,
    levels: tuple[str, str],
    moderator: str,
    ends: tuple[float, float],
    differences: tuple[Row, Row],
    change: Row,
    measure: Measure = ACCURACY,
) -> tuple[Inline, ...]:
    """Say how the difference between two levels changes along a moderator.

    Parameters
    ----------
    experiment, levels
        As for `say_difference`.
    moderator, ends
        Predictor and the two values that are compared.
    differences
        Rows of contrasts on the scale ``difference`` at the two values.
    change
        Row of the interaction on the scale ``difference``. Its region of practical equivalence is not used: it was
        set for a contrast, not for a difference of contrasts.
    measure
        What the response is called.
    """
    first, second = levels
    at_low, at_high = (row["estimate"] for row in differences)
    judged = verdict(change, negligible=False)
    if judged == "open":
        words = "whether the difference {pair} changes with {moderator} remains open"
    elif min(at_low, at_high) < 0 < max(at_low, at_high):
        words = "the difference {pair} moved with {moderator} towards {winner}"
    else:  # one level is ahead at both ends: did its lead grow?
        grew = abs(at_high) > abs(at_low)
        words = "the difference {pair} " + ("grew" if grew else "shrank") + " with {moderator}, towards {winner}"
    return prose(
        _opening(experiment, words)
        + f": it was {{a}} {measure.units}"
        + " at {moderator} {low} and {b} at {moderator} {high}, a change of {change} "
        "({label} {change_low} to {change_high}; probability of direction {pd}).",
        experiment=Strong(experiment),
        moderator=moderator,
        pair=f"{second} − {first}",
        winner=second if judged == "higher" else first,
        a=measure.difference(at_low),
        b=measure.difference(at_high),
        low=f"{ends[0]:.3g}".replace("-", "−"),
        high=f"{ends[1]:.3g}".replace("-", "−"),
        change=Strong(measure.difference(change["estimate"])),
        label=_label(change),
        change_low=measure.difference(change["conf_low"]),
        change_high=measure.difference(change["conf_high"]),
        pd=share(change["pd"]),
    )


def say_detection(
    experiment: str, dprime: Row, criterion: Row, moderator: str = "", ends: Sequence[tuple[float, Row]] = ()
) -> tuple[Inline, ...]:
    """Say how well a signal was detected, and with which bias.

    Parameters
    ----------
    experiment
        As for `say_difference`.
    dprime, criterion
        Rows of `psychostats.detection`.
    moderator, ends
        A predictor, and the rows of d' at two of its values.
    """
    bias = {
        "higher": "people said yes less often than an unbiased observer would",
        "lower": "people said yes more often than an unbiased observer would",
    }.get(verdict(criterion, negligible=False), "whether people favoured one answer remains open")
    along = "; it was {low} at {moderator} {first} and {high} at {moderator} {last}" if ends else ""
    return prose(
        _opening(experiment, "the typical participant's d′ was {d}")
        + (" ({label} {from_} to {to})" + along + "; the criterion c was {c} ({label} {c_from} to {c_to}): {bias}."),
        experiment=Strong(experiment),
        d=Strong(number(dprime["estimate"])),
        label=_label(dprime),
        from_=number(dprime["conf_low"]),
        to=number(dprime["conf_high"]),
        c=number(criterion["estimate"]),
        c_from=number(criterion["conf_low"]),
        c_to=number(criterion["conf_high"]),
        bias=bias,
        moderator=moderator,
        **{
            name: text
            for (value, row), names in zip(ends, (("first", "low"), ("last", "high")), strict=False)
            for name, text in zip(names, (f"{value:.3g}", number(row["estimate"])), strict=True)
        },
    )


def say_overall(rows: Sequence[Row], what: str, *, negligible: bool = True, of: str = "experiments") -> str:
    """Count the verdicts on one quantity over experiments, or say nothing for one experiment."""
    if len(rows) < 2:
        return ""
    verdicts = [verdict(row, negligible=negligible) for row in rows]
    sides: dict[Verdict, str] = {
        "higher": "above zero",
        "lower": "below zero",
        "equal": "practically zero",
        "open": "open",
    }
    counts = {key: verdicts.count(key) for key in sides if key in verdicts}
    by = f"by its {_label(rows[0])}"
    if len(counts) == 1:
        return f"In all {len(rows)} {of}, {what} is {sides[next(iter(counts))]}, {by}."
    places = " and ".join(f"{sides[key]} in {count}" for key, count in counts.items())
    return f"Of {len(rows)} {of}, {what} is {places}, {by}."


# A difference of less than four, or than twice its standard error, is no reason to prefer a model (Sivula, Magnusson,
# Matamoros and Vehtari 2020).
_SMALL_ELPD, _SMALL_SE = 4.0, 2.0


def say_question(unit: str, groups: Sequence[str], *, laplace: bool = False, folds: bool = False) -> str:
    """Say which question a comparison by what was left out answers.

    Parameters
    ----------
    unit
        What was left out: ``trial``, or one of the groups.
    groups
        Grouping factors of the models.
    laplace
        Whether the unit's effects were integrated by Laplace's approximation.
    folds
        Whether whole folds were left out, not one unit at a time.
    """
    others = "those of the other folds" if folds else "the others"
    if unit == "trial":
        these = f" from these {' and '.join(map(plural, groups))}" if groups else ""
        return f"elpd: how well a model predicts another trial{these}, the log density of each trial given {others}."
    how = ", by Laplace's approximation" if laplace else ""
    return (
        f"elpd: how well a model predicts another {unit}, the log density of all trials of each {unit} given "
        f"{others}, with the {unit}'s own effects integrated out{how}."
    )


def say_prediction(rows: Sequence[Row]) -> list[str]:
    """Say of every model how it predicts beside the best, which is the first of the rows."""
    best, said = rows[0]["model"], []
    for row in rows[1:]:
        by, error = number(-row["elpd_diff"], 1), number(row["se_diff"], 1)
        size = abs(row["elpd_diff"])
        if size < _SMALL_ELPD or size < _SMALL_SE * row["se_diff"]:
            said.append(
                f"{best} and {row['model']} predict about equally well (a difference of {by}, standard error {error}): "
                "the data do not tell them apart."
            )
        else:
            said.append(f"{best} predicts better than {row['model']}: by {by}, standard error {error}.")
    return said


# Differences in AIC: up to 2 both models are supported, above 10 the worse has essentially no support; between, more or
# less (Burnham and Anderson 2002, section 2.6).
_AIC_SMALL, _AIC_LARGE = 2.0, 10.0


def say_aic_limits() -> str:
    """Say from which difference in AIC on a model is said to be preferred."""
    return (
        f"Up to {_AIC_SMALL:g} AIC is said not to tell models apart, from {_AIC_LARGE:g} on to prefer one clearly "
        "(Burnham and Anderson 2002)."
    )


def say_predicted_change(what: str, aic: float, elpd: float, se: float, p_value: float) -> tuple[Inline, ...]:
    """Say whether terms are worth having, with care where the difference is small.

    Parameters
    ----------
    what
        What the terms stand for.
    aic
        AIC without them minus AIC with them.
    elpd, se
        How much better the model with them predicts, and the standard error of that.
    p_value
        Of the likelihood-ratio test.
    """
    favours = "with" if aic > 0 else "without"
    if abs(aic) <= _AIC_SMALL:
        by_aic = "AIC does not tell the models apart"
    elif abs(aic) < _AIC_LARGE:
        by_aic = f"AIC prefers the model {favours} it, not decisively"
    else:
        by_aic = f"AIC clearly prefers the model {favours} it"
    better = "with" if elpd > 0 else "without"
    if abs(elpd) < _SMALL_ELPD or abs(elpd) < _SMALL_SE * se:
        by_loo = "cross-validation does not tell them apart"
    else:
        by_loo = f"cross-validation prefers the model {better} it"
    return prose(
        "Is {what} worth its terms? {aic_words} (a difference of {aic}; likelihood-ratio test p {p}), and {loo_words} "
        "(a difference in elpd of {elpd}, standard error {se}). A model that predicts a little better is no measure "
        "of how large an effect is; that is the contrast's interval.",
        what=what,
        aic_words=by_aic,
        aic=number(abs(aic), 1),
        p=(lambda text: text if text.startswith("<") else f"= {text}")(format_value(p_value, "p", 3)),
        loo_words=by_loo,
        elpd=number(abs(elpd), 1),
        se=number(se, 1),
    )


def say_bad_k(rows: Sequence[Row], limits: Mapping[str, tuple[float, int]]) -> list[str]:
    """Say of which models Pareto's k is too large somewhere, and what that means.

    Parameters
    ----------
    rows
        Of the comparison.
    limits
        By model, the k above which it is too large, and how many units there are.
    """
    said = []
    for row in rows:
        limit, units = limits[row["model"]]
        if row["bad_k"]:
            said.append(
                f"{row['model']}: Pareto's k is above {number(limit)} for {row['bad_k']:,} of {units:,} "
                f"{plural(row['unit'])}; the fit depends so much on each of these that elpd may be wrong, mostly too "
                "high. Fit again without them, one at a time, or compare in folds (--kfold), to be sure."
            )
    least = min(limit for limit, _ in limits.values())
    return said or [f"No Pareto's k is above {number(least)}: elpd can be trusted."]


def say_folds(folds: int, seed: int, failed: Mapping[str, Sequence[int]]) -> list[str]:
    """Say how K-fold cross-validation was done, and which of its fits may not be read.

    Parameters
    ----------
    folds, seed
        Their number, and by what units were put into them.
    failed
        By model, the folds without which its fit did not converge.
    """
    said = [
        f"{folds}-fold cross-validation (seed {seed}, the same folds for every model): each was fitted {folds} times, "
        "without one fold each time. Nothing was importance-sampled, so there is no Pareto's k."
    ]
    for model, numbers in failed.items():
        if numbers:
            which = f"fold{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
            said.append(
                f"{model}: {len(numbers)} of the {folds} refits did not converge (without {which}), so elpd may be "
                "wrong; fit it with more draws and compare again."
            )
    return said


def say_bayes_factor(rows: Sequence[Row], products: Sequence[str] = ()) -> list[str]:
    """Say what a Bayes factor says, that its prior's width decides it, and where it may not be relied on.

    Parameters
    ----------
    rows
        Of `psychostats.bayes_factor.bayes_factor`: the prior's scale halved, as it is, doubled.
    products
        Other terms in which this one is multiplied with something.
    """
    half, row, double = rows
    term, prior = row["term"], row["prior"]
    if "upper bound" in row["note"]:
        said = [
            f"The data are at least {factor(row['bf10'])} times as likely with the prior {prior} of {term} as with "
            f"{term} = 0. No draw lies at or beyond 0, so only a bound can be given (95 %, if the density falls "
            f"towards 0); the normal approximation, which such a distance stretches, says "
            f"BF01 = {factor(row['bf01_normal'])}."
        ]
    else:
        words = (
            f"with {term} = 0 as with its prior {prior}"
            if row["bf01"] >= 1
            else f"with the prior {prior} of {term} as with {term} = 0"
        )
        said = [
            f"The data are {factor(max(row['bf01'], row['bf10']))} times as likely {words} "
            f"(BF01 = {factor(row['bf01'])}, relative Monte Carlo error {percent(row['mc_error'])})."
        ]
    at_most = "at most " if "upper bound" in row["note"] else ""
    said.append(
        f"That depends on the prior's width: with half the scale BF01 is {at_most}{factor(half['bf01'])}, with double "
        f"{at_most}{factor(double['bf01'])}. A Bayes factor weighs the prior as much as the data; the headline is the "
        "estimate with its interval."
    )
    if products:
        said.append(f"{term} is the effect where what it is multiplied with ({', '.join(products)}) is 0.")
    bad = [f"{one['scale']} (Pareto's k {number(one['pareto_k'])})" for one in rows if "unreliable" in one["note"]]
    if bad:
        said.append(
            f"Not to be relied on with the scale {' and '.join(bad)}: the weights are too uneven; fit with that prior."
        )
    return said


def say_calibration(groups: Sequence[str], measure: Measure = ACCURACY) -> str:
    """Say what the reliability diagram of a model with effects of these groups shows, and what its band is worth."""
    answered, such = "be answered correctly", "correct answers"
    if not measure.is_accuracy:
        answered, such = f"have {measure.column} = 1", "such trials"
    said = (
        f"Where the model gives a trial a probability of 80 %, about 80 % of such trials should {answered}. "
        "Each trial is predicted from all others, so that the check is of answers the prediction has not seen; the "
        f"share of {such} is made to rise with the prediction, without bins. A line that leaves the band and "
        "stays outside says that the form of the model is wrong there (its link, its guess or lapse rate, or an effect "
        "that is missing): steeper than the diagonal, the model makes trials too much alike; flatter, too different. "
        "The band holds at each prediction by itself, so a line may leave it here and there."
    )
    if len(groups) != 1:
        return said
    return (
        f"{said} It takes answers as independent; with effects of {groups[0]} alone it is too narrow, and a third of "
        "the line of a true model may lie outside."
    )


def factor(value: float) -> str:
    """Print a positive factor with three digits that count, ``0.0417``, ``3.20``, ``1,250``."""
    if value >= 1e6 or value < 1e-4:
        return f"{value:.1e}".replace("-", "−")
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def _literal(text: str) -> str:
    """Return a text as it is within a template of `prose`."""
    return text.replace("{", "{{").replace("}", "}}")


def _opening(experiment: str, words: str) -> str:
    """Begin a sentence with its experiment, where there are several."""
    return f"In {{experiment}}, {words}" if experiment else f"{words[0].upper()}{words[1:]}"


def _label(row: Row) -> str:
    """Name the interval short, with its probability: the full name stands in every table."""
    kinds = {"eti": "credible interval", "hdi": "highest-density interval", "wald": "confidence interval"}
    return f"{100 * row['conf_level']:g}\u00a0% {kinds[row['interval']]}"
