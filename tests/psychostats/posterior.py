"""What the tests of the sampler share: models ready to sample, draws by name, and two sets of draws compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr

from psychostats.design import Design, code
from psychostats.priors import resolve_priors
from psychostats.sampling import Sample
from psychostats.spec import specify

Array = np.ndarray


def prepare(frame: pd.DataFrame, formula: str, priors: Sequence[str] = (), **family: Any) -> Any:
    """Return what `sample` takes."""
    spec = specify(formula, priors=priors, **family)
    design = code(spec.formula, frame, thresholds=spec.family.ordinal).design(frame, spec.family.response)
    return design, spec.family, resolve_priors(design, spec.priors, spec.family)


def named(design: Design, drawn: Sample, *, random: bool = False) -> dict[str, Array]:
    """Return draws of shape (chains, draws) by name."""
    out = {f"b_{name}": drawn.b[..., j] for j, name in enumerate(design.coefficients)}
    for name, values in drawn.family.items():
        names = [f"b_{scale}" for scale in design.scale_names] if name == "disc" else []
        names = names or [f"b_Intercept[{k}]" for k in range(1, values.shape[-1] + 1)]
        many = dict(zip(names, np.moveaxis(values, -1, 0), strict=True)) if values.ndim > 2 else {}
        out |= many or {name: values}
    for m, effect in enumerate(design.monotonic):
        out[effect.term] = drawn.bsp[..., m]
        out |= {share: drawn.simo[m][..., k] for k, share in enumerate(effect.shares)}
    for i, block in enumerate(design.blocks):
        for j, term in enumerate(block.terms):
            out[f"sd_{block.group}__{term}"] = drawn.sd[i][..., j]
            for k, level in enumerate(block.levels if random else ()):
                out[f"r_{block.group}[{level},{term}]"] = drawn.r[i][..., k, j]
        for j in range(drawn.cor[i].shape[-1]):
            out[f"cor_{block.group}_{j}"] = drawn.cor[i][..., j]
    return out


def moments(draws: Array) -> dict[str, tuple[float, float]]:
    """Return mean and SD of draws of shape (chains, draws), each with its Monte Carlo standard error.

    That of the SD by the delta method, from the fourth moment and the effective size of the squared deviations.
    """
    square = (draws - draws.mean()) ** 2
    effective = [float(az.ess(xr.Dataset({"x": (("chain", "draw"), d)}), method="mean")["x"]) for d in (draws, square)]
    sd = float(np.sqrt(square.mean()))
    return {
        "mean": (float(draws.mean()), sd / np.sqrt(effective[0])),
        "sd": (sd, float(square.std() / np.sqrt(effective[1]) / (2 * sd))),
    }


def z_scores(one: dict[str, Array], two: dict[str, Array]) -> dict[str, float]:
    """Return how many Monte Carlo standard errors apart the means and SDs of two sets of draws are."""
    assert one.keys() == two.keys()
    scores = {}
    for name in one:
        ours, theirs = moments(one[name]), moments(two[name])
        for what, (value, error) in ours.items():
            scores[f"{what} {name}"] = (value - theirs[what][0]) / float(np.hypot(error, theirs[what][1]))
    return scores


def assert_alike(one: dict[str, Array], two: dict[str, Array], most: float = 4.0) -> None:
    """Hold two sets of draws to be of one distribution, within Monte Carlo error."""
    scores = z_scores(one, two)
    worst = max(scores, key=lambda name: abs(scores[name]))
    assert abs(scores[worst]) < most, f"{worst}: {scores[worst]:.1f} Monte Carlo standard errors apart"
    # Their spread is that of noise, too: a bias too small for any one of them but shared by many would show here.
    assert np.sqrt(np.mean(np.square(list(scores.values())))) < 2.0


def full_frame(seed: int, levels: tuple[int, int] = (32, 32)) -> pd.DataFrame:
    """Return trials with exactly as many levels as the sampler pads to."""
    rng = np.random.default_rng(seed)
    n = 320
    right = rng.integers(0, 4, n)
    return pd.DataFrame(
        {
            "g": [f"g{i:02d}" for i in rng.permutation(np.arange(n) % levels[0])],
            "h": [f"h{i:02d}" for i in rng.permutation(np.arange(n) % levels[1])],
            "f": rng.choice(["a", "b", "c"], n),
            "x": rng.uniform(-1, 2, n),
            "w": rng.normal(size=n),
            "o": rng.normal(size=n),
            "correct": np.minimum(right, 1),
            "rating": right + 1,
            "rt": 0.3 + rng.lognormal(-1, 0.5, n),
            "level": pd.Categorical(rng.choice(["low", "mid", "high", "top"], n), ["low", "mid", "high", "top"]),
            "right": right,
            "wrong": 3 - right,
        }
    )


def correlations(cor: Array, q: int) -> Array:
    """Return matrices from their entries below the diagonal, row by row."""
    R = np.zeros((*cor.shape[:-1], q, q)) + np.eye(q)
    rows, columns = np.tril_indices(q, -1)
    R[..., rows, columns] = R[..., columns, rows] = cor
    return R
