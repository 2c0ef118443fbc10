"""The posterior against brms's, under the same priors: every mean and SD within Monte Carlo error (tests/golden)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from posterior import moments

from psychostats import fit

pytestmark = pytest.mark.once

GOLDEN = Path(__file__).parents[1] / "golden"
REFERENCE = {name: model for name, model in json.loads((GOLDEN / "brms.json").read_text()).items() if name[0] != "_"}
MODELS = list(REFERENCE)


def read(name):
    frame = pd.read_csv(GOLDEN / "data" / name)
    if "representation" in frame:
        frame["representation"] = pd.Categorical(frame["representation"], ["local", "distributed"])
    if "layer" in frame:
        frame["layer"] = pd.Categorical(frame["layer"], sorted(frame["layer"].unique()))
    return frame


def deviations(name, *, draws=1000, seed=1):
    """Return, for each term, how many combined Monte Carlo standard errors apart our mean and SD are from brms's."""
    model = REFERENCE[name]
    frame, disc = read(model["data"]), model["disc"]
    if disc:  # without an intercept there, brms was given the column that a factor is coded as here
        disc = disc.removeprefix("0 + ")
        frame[disc] = (frame["representation"] == "distributed").astype(int)
    family = "afc" if model["guess"] else model["family"]
    made = fit(
        model["formula"],
        frame,
        family=family,
        link=model["link"] if model["link"] in ("logit", "probit") else None,
        guess=model["guess"] or None,
        lapse=model["lapse"],
        disc=disc,
        priors=model["priors"],
        draws=draws,
        seed=seed,
    )
    flat = made.draws_table.flat(random=True)
    chains = made.settings.chains
    found = {}
    for term, theirs in model["terms"].items():
        ours = moments(flat[term].to_numpy().reshape(chains, -1))
        for what, (value, error) in ours.items():
            gap = value - theirs[what]
            found[f"{what} {term}"] = gap / float(np.hypot(error, theirs[f"mcse_{what}"]))
    return found


# One a kind of posterior, since each is compiled; all of them: python tests/psychostats/test_brms.py.
@pytest.mark.parametrize(
    "name", ["afc_lapse", "cumulative_unequal", "shifted_lognormal", "gaussian_slopes", "monotonic"]
)
def test_means_and_sds_are_those_of_brms(name):
    found = deviations(name)
    levels = {term: z for term, z in found.items() if " r_" in term}
    main = {term: z for term, z in found.items() if " r_" not in term}
    assert len(main) >= 10
    worst = max(main, key=lambda term: abs(main[term]))
    assert abs(main[worst]) < 4.0, f"{worst}: {main[worst]:.1f} Monte Carlo standard errors"
    # Of some hundred effects of levels one may be a little beyond; none is far, and all together they are noise.
    assert sum(abs(z) > 4.0 for z in levels.values()) <= 1
    assert max(map(abs, levels.values()), default=0.0) < 5.5
    assert np.sqrt(np.mean(np.square(list(found.values())))) < 2.0


if __name__ == "__main__":
    print("| model | terms | largest, b sd cor and family | largest, r | r beyond 4 | root mean square |")
    print("|---|---|---|---|---|---|")
    for each in MODELS:
        z = deviations(each, draws=2500)
        r = [abs(value) for term, value in z.items() if " r_" in term]
        rest = [abs(value) for term, value in z.items() if " r_" not in term]
        spread = np.sqrt(np.mean(np.square([*r, *rest])))
        beyond = sum(value > 4 for value in r)
        print(
            f"| {each} | {len(z) // 2} | {max(rest):.1f} | {max(r):.1f} | {beyond} of {len(r)} | {spread:.2f} |",
            flush=True,
        )
