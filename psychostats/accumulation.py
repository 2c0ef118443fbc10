"""The effect as participants were added: the contrast at rising numbers of people.

In: the stacked trials of two studies, in the order in which people came.  Out: a tidy table, by maximum likelihood.
Knows no words and no figures.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from psychostats.cells import read_times
from psychostats.effects import contrasts
from psychostats.errors import InputError, NoMaximumError
from psychostats.fit import fit
from psychostats.intervals import Interval
from psychostats.pooled import STUDY
from psychostats.settings import EffectsTable, ModelTable

#: Fewer people than this are not asked: their group effects cannot be told apart from noise.
_FEWEST = 8


def accumulate(
    stacked: pd.DataFrame,
    model: ModelTable,
    effects: EffectsTable,
    *,
    person: str,
    steps: int,
    say: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Follow the contrast, in the population and with the moderator at its mean, as people are added.

    Parameters
    ----------
    stacked
        Trials of one experiment, with the factor `STUDY`. People come in the order of ``started`` where the trials have
        it, else of their rows; the old study first.
    model
        The model of either study. It is fitted by maximum likelihood, without priors, so that each step takes a
        second; studies are not told apart.
    effects
        Which contrast; its interval's probability.
    person
        The column of who answered.
    steps
        About how many numbers of people, evenly spaced; that of the old study is always among them.
    say
        Called with a line as each step begins.

    Returns
    -------
    DataFrame
        ``participants, trials, study`` (whose person came last)``, contrast, estimate, conf_low, conf_high,
        conf_level, interval, reason``; NaN and a reason where there is no maximum.
    """
    people = _in_order(stacked, person)
    old = int((people[STUDY] == people[STUDY].cat.categories[0]).sum())
    counts = np.unique(np.round(np.linspace(len(people) / steps, len(people), steps)).astype(int))
    # The old study's own number takes the place of the one nearest to it, the last apart.
    near = int(np.argmin(np.abs(counts[:-1] - old))) if len(counts) > 1 else 0
    counts = np.unique(np.where(np.arange(len(counts)) == near, old, counts))
    interval = Interval("wald", effects.probability)
    spec = model.as_maximum().spec()
    rows = []
    for count in counts[counts >= min(_FEWEST, old)].tolist():
        some = people.iloc[:count]
        part = stacked[stacked[person].isin(some[person])]
        say(f"  {count} of {len(people)} participants")
        place = {"participants": count, "trials": len(part), STUDY: str(some[STUDY].iloc[-1])}
        try:
            made = fit(spec, part.dropna(subset=list(spec.formula.variables)), engine="laplace")
            found = contrasts(made, effects.factor, interval=interval)
        except (NoMaximumError, InputError) as error:
            rows.append(place | {"reason": str(error).splitlines()[0]})
            continue
        wanted = found[(found["target"] == "population") & (found["scale"] == "difference")]
        rows += [
            place | {str(key): value for key, value in row.items()} | {"reason": ""}
            for row in wanted.to_dict("records")
        ]
    columns = ["participants", "trials", STUDY, "contrast", "estimate", "conf_low", "conf_high", "conf_level"]
    return pd.DataFrame(rows).reindex(columns=[*columns, "interval", "reason"])


def _in_order(stacked: pd.DataFrame, person: str) -> pd.DataFrame:
    """Return each person with their study, in the order in which they came."""
    people = stacked.drop_duplicates(person)
    if "started" in people:
        people = people.assign(started=read_times(people["started"]))  # text sorts by its signs, whatever its zone
        people = people.sort_values([STUDY, "started"], kind="stable", na_position="last")
    return people[[person, STUDY]]
