"""The sampler's coordinates: what they are made of, and that any such numbers leave the posterior as it is."""

from __future__ import annotations

import numpy as np
import pytest
from posterior import full_frame, named, prepare, z_scores
from test_nuts import CASES, made, posterior

from psychostats import nuts, whitening
from psychostats.sampling import Settings


@pytest.mark.parametrize("most", [8, 36, 1000])
def test_draws_are_of_one_posterior_however_much_is_whitened_together(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    formula, family, priors = CASES["three crossed"]
    model = prepare(full_frame(7), formula, priors, **family)
    whole = nuts.sample(*model, Settings(draws=3000, tune=300, seed=1))
    monkeypatch.setattr(whitening, "_REST", most)
    monkeypatch.setattr(whitening, "_REST_A_CELL", 0)
    coupled = posterior(*model).whitening.coupled
    part = nuts.sample(*model, Settings(draws=3000, tune=300, seed=2))
    assert coupled == {8: 0, 36: 1, 1000: 2}[most]
    scores = z_scores(named(model[0], whole, random=True), named(model[0], part, random=True))
    assert max(map(abs, scores.values())) < 4.5


def test_an_sd_that_data_do_not_know_is_softer() -> None:
    """a is the standard error of the SD, between a tenth of it and all of it."""
    model = posterior(*made("crossed"))
    frame = full_frame(7)
    wide = posterior(*prepare(frame.iloc[:40], CASES["crossed"][0]))
    for one in (model, wide):
        a = one.whitening.softness
        s = a * np.log1p(np.exp(one.whitening.theta / a))
        assert ((a / s > 0.1 - 1e-9) & (a / s < 1 + 1e-9)).all()
    assert (wide.whitening.softness > model.whitening.softness).all()
