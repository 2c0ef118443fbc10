"""Priors: what each parameter is believed to be before the data, by default and as the user overrides it.

In: a `Design` and texts such as ``b_depth ~ normal(0, 0.5)``.  Out: one `Prior` a parameter, with its source, which is
the table of priors in use, and draws from it.  Knows no sampler.

Defaults, on the logit scale: intercept normal(0, 1.5) where all predictors are 0; b normal(0, 1) over each predictor's
range; sd exponential(2); cor lkj(2); shares of a monotonic effect's steps dirichlet(1), its mean step normal(0, 1) over
all steps; effects on log disc normal(0, 1) over the predictor's range.  A family of measurements brings its own centre
and unit: all of these are then times that unit, the intercept's around that centre.  The family's own parameters have
the priors that it declares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from psychostats.design import Design
from psychostats.errors import PriorError, nearest
from psychostats.family import Family

if TYPE_CHECKING:
    from scipy import stats

Array: TypeAlias = npt.NDArray[np.float64]

# For each distribution: the names of its arguments, which of them must be positive, and which classes it may serve.
_SHAPES: dict[str, tuple[tuple[str, ...], tuple[bool, ...], tuple[str, ...]]] = {
    "normal": (("mean", "sd"), (False, True), ("b", "sd", "sigma", "ndt")),
    "student_t": (("df", "mean", "scale"), (True, False, True), ("b", "sd", "sigma", "ndt")),
    "cauchy": (("mean", "scale"), (False, True), ("b", "sd", "sigma", "ndt")),
    "exponential": (("rate",), (True,), ("sd", "sigma", "ndt")),
    "gamma": (("shape", "rate"), (True, True), ("sd", "sigma", "ndt")),
    "lkj": (("eta",), (True,), ("cor",)),
    "beta": (("a", "b"), (True, True), ("lapse",)),
    "uniform": (("low", "high"), (False, False), ("lapse", "ndt")),
    "dirichlet": (("concentration",), (True,), ("simo",)),
}


#: What the first of a distribution's constants says of it, for engines that know numbers only.
KINDS = {"normal": 0.0, "student_t": 1.0, "gamma": 2.0, "beta": 3.0}


@dataclass(frozen=True)
class Distribution:
    """A named distribution and its arguments, in Stan's parameterisation.

    A distribution on the whole line that serves an sd is cut at zero: normal is then half-normal.
    """

    name: str
    args: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{arg:g}' for arg in self.args)})"

    def frozen(self) -> stats.distributions.rv_frozen:
        """Return SciPy's version, before any cut at zero."""
        from scipy import stats  # here, since it takes longer to import than a model to fit

        a = self.args
        makers: dict[str, Callable[[], stats.distributions.rv_frozen]] = {
            "normal": lambda: stats.norm(a[0], a[1]),
            "student_t": lambda: stats.t(a[0], a[1], a[2]),
            "cauchy": lambda: stats.cauchy(a[0], a[1]),
            "exponential": lambda: stats.expon(scale=1.0 / a[0]),
            "gamma": lambda: stats.gamma(a[0], scale=1.0 / a[1]),
            "beta": lambda: stats.beta(a[0], a[1]),
            "uniform": lambda: stats.uniform(a[0], a[1] - a[0]),
        }
        return makers[self.name]()

    def draw(self, rng: np.random.Generator, size: int, *, low: float = -np.inf, high: float = np.inf) -> Array:
        """Draw values from the part between two bounds, by inverting the survival function."""
        law = self.frozen()
        above, beyond = float(law.sf(low)), float(law.sf(high))
        return np.asarray(law.isf(beyond + (above - beyond) * rng.uniform(size=size)), dtype=float)

    def log_density(self, x: Array) -> Array:
        """Return its log-density, elementwise, before any cut."""
        law: Any = self.frozen()
        return np.asarray(law.logpdf(x), dtype=float)

    def constants(self) -> tuple[float, float, float, float]:
        """Return (kind, location, scale, shape), the kind one of `KINDS`; of a beta law both powers come last."""
        a = self.args
        if self.name == "normal":
            return KINDS["normal"], a[0], a[1], 1.0
        if self.name == "student_t":
            return KINDS["student_t"], a[1], a[2], a[0]
        if self.name == "cauchy":
            return KINDS["student_t"], a[0], a[1], 1.0
        if self.name == "exponential":  # the gamma of shape 1
            return KINDS["gamma"], 0.0, 1.0 / a[0], 1.0
        if self.name in ("beta", "uniform"):  # a uniform law is flat over its range, which is handed in apart
            powers = a if self.name == "beta" else (1.0, 1.0)
            return KINDS["beta"], 0.0, powers[0], powers[1]
        return KINDS["gamma"], 0.0, 1.0 / a[1], a[0]

    def scale(self) -> float:
        """Return the median of the part above zero, a typical size for an sd."""
        a = self.args
        # By SciPy's functions, not its distributions: importing those takes as long as a fit.
        if self.name == "normal":
            return a[0] - a[1] * float(special.ndtri(0.5 * special.ndtr(a[0] / a[1])))
        if self.name in ("student_t", "cauchy"):
            df, centre, unit = a if self.name == "student_t" else (1.0, *a)
            return centre - unit * float(special.stdtrit(df, float(0.5 * special.stdtr(df, centre / unit))))
        if self.name == "exponential":
            return float(np.log(2.0)) / a[0]
        if self.name == "gamma":
            return float(special.gammaincinv(a[0], 0.5)) / a[1]
        law = self.frozen()
        return float(law.isf(0.5 * law.sf(0.0)))


@dataclass(frozen=True)
class Prior:
    """The prior of one parameter (of one group's correlations, or of one simplex, together).

    Parameters
    ----------
    klass
        ``b``, ``sd``, ``cor``, ``simo`` or the name of a parameter of a family's own, as ``lapse``.
    group, coef
        Grouping factor and column, where they apply.
    distribution
        In use.
    source
        ``default``, or the user's text.
    low, high
        Ends of the parameter's range, beyond which its distribution is cut.
    part
        Of class ``b``: ``disc`` of an effect on it, ``Intercept`` of a threshold; else empty.
    """

    klass: str
    group: str | None
    coef: str | None
    distribution: Distribution
    source: str
    low: float = -np.inf
    high: float = np.inf
    part: str = ""

    @property
    def name(self) -> str:
        """The parameter as tables name it."""
        if self.klass == "b":
            return str(self.coef) if str(self.coef).startswith("bsp_") else f"b_{self.coef}"
        if self.klass == "simo":
            return str(self.coef)
        if self.klass == "sd":
            return f"sd_{self.group}__{self.coef}"
        return f"cor_{self.group}" if self.klass == "cor" else self.klass

    @property
    def aliases(self) -> tuple[str, ...]:
        """Texts that reach this parameter in an override, the widest first."""
        if self.part:
            return (f"b_{self.part}", self.name)
        if self.klass == "b":
            return (self.name,) if self.coef == "Intercept" else ("b", self.name)
        if self.klass == "simo":
            return ("simo", self.name)
        if self.klass == "sd":
            return ("sd", f"sd_{self.group}", self.name)
        return ("cor", self.name) if self.klass == "cor" else (self.name,)

    def draw(self, rng: np.random.Generator, size: int) -> Array:
        """Draw values of the parameter; of ``cor`` there is no single one."""
        return self.distribution.draw(rng, size, low=self.low, high=self.high)

    def row(self) -> dict[str, str | None]:
        """Return the prior as a row of the table of priors in use."""
        return {
            "class": self.klass,
            "group": self.group,
            "coef": self.coef,
            "prior": str(self.distribution),
            "source": self.source,
        }


def parse_prior(text: str) -> tuple[str, Distribution]:
    """Read ``CLASS ~ DIST``.

    Returns
    -------
    tuple
        What it is about, and the distribution.

    Raises
    ------
    PriorError
        If the text cannot be read or the arguments are not allowed.
    """
    match = re.fullmatch(r"\s*(\S.*?)\s*~\s*(\w+)\s*\(([^()]*)\)\s*", text)
    if match is None:
        raise PriorError(f"the prior '{text}' cannot be read; write for example 'b_depth ~ normal(0, 0.5)'.")
    target, name, inside = match.groups()
    if name not in _SHAPES:
        raise PriorError(
            f"the distribution '{name}' in '{text}' is unknown{nearest(name, _SHAPES)}; allowed are "
            f"{', '.join(_SHAPES)}."
        )
    names, positive, _ = _SHAPES[name]
    try:
        args = tuple(float(part) for part in inside.split(",")) if inside.strip() else ()
    except ValueError:
        raise PriorError(f"the arguments of '{text}' are no numbers; {name} takes ({', '.join(names)}).") from None
    if len(args) != len(names):
        raise PriorError(f"'{text}' gives {len(args)} arguments; {name} takes ({', '.join(names)}).")
    for arg, label, above in zip(args, names, positive, strict=True):
        if not np.isfinite(arg) or (above and arg <= 0):
            raise PriorError(
                f"the {label} {arg:g} in '{text}' is not allowed; it must be finite{' and above 0' if above else ''}."
            )
    return ("b_Intercept" if target == "Intercept" else target), Distribution(name, args)


def default_priors(design: Design, family: Family | None = None) -> tuple[Prior, ...]:
    """Return the default prior of every parameter, in the order of the tables; without a family, of plain answers."""
    centre, unit = family.location(design.successes) if family else (0.0, 1.0)
    own = family.own(design.successes) if family else ()
    steps = {place for effect in design.monotonic for place in effect.columns}
    priors = []
    thresholds = [one for one in own if one.support == "ordered"]
    for one in thresholds:
        law = Distribution(*one.law)
        names = [label.removeprefix("b_") for label in one.labels]
        priors += [Prior("b", None, name, law, "default", part="Intercept") for name in names]
    for place, (name, column) in enumerate(zip(design.names, design.X.T, strict=True)):
        if name == "Intercept":
            priors.append(Prior("b", None, name, Distribution("normal", (centre, 1.5 * unit)), "default"))
        elif place not in steps:
            priors.append(Prior("b", None, name, _over_range(column, unit), "default"))
    for effect in design.monotonic:
        way = design.X[:, list(effect.columns)].sum(axis=1)  # what its coefficient, the mean step, is multiplied with
        priors.append(Prior("b", None, effect.term, _over_range(way, unit), "default"))
    for name, column in zip(design.scale_names, () if design.scale is None else design.scale.T, strict=True):
        priors.append(Prior("b", None, name, _over_range(column, 1.0), "default", part="disc"))
    for block in design.blocks:
        law = Distribution("exponential", (2.0 / unit,))
        priors += [Prior("sd", block.group, term, law, "default", 0.0) for term in block.terms]
    for group in dict.fromkeys(block.group for block in design.blocks if block.structure == "correlated"):
        priors.append(Prior("cor", group, None, Distribution("lkj", (2.0,)), "default"))
    for effect in (effect for effect in design.monotonic if len(effect.columns) > 1):
        priors.append(Prior("simo", None, effect.simplex, Distribution("dirichlet", (1.0,)), "default", 0.0, 1.0))
    for one in own:
        if one not in thresholds:
            priors.append(Prior(one.name, None, None, Distribution(*one.law), "default", one.low, one.high))
    return tuple(priors)


def _over_range(column: Array, unit: float) -> Distribution:
    """Return normal(0, 1) in some unit over the range of a column."""
    # A constant column has no range; its own size stands in, so that prior and column scale together.
    reach = float(np.ptp(column)) or float(np.abs(column).max()) or 1.0
    return Distribution("normal", (0.0, unit / reach))


def resolve_priors(design: Design, overrides: Sequence[str] = (), family: Family | None = None) -> tuple[Prior, ...]:
    """Put the user's priors over the defaults; the narrowest wins, and among equals the last.

    Parameters
    ----------
    design
        Whose parameters are meant.
    overrides
        Texts ``CLASS ~ DIST``, CLASS one of ``b`` (all but the intercept), ``b_Intercept`` (or ``Intercept``),
        ``b_disc`` (effects on disc, which ``b`` does not reach), ``b_disc_depth``,
        ``b_depth``, ``sd``, ``sd_participant``, ``sd_participant__Intercept``, ``cor``, ``cor_participant``, ``simo``,
        ``lapse``, ``sigma``, ``ndt``; ``b_Intercept`` reaches all thresholds of a rating, ``b_Intercept[1]`` one.
    family
        Whose own parameters are to be estimated, if any.

    Raises
    ------
    PriorError
        If an override cannot be read, matches no parameter, or its distribution cannot serve the class.
    """
    priors = default_priors(design, family)
    parsed = [(*parse_prior(text), " ".join(text.split())) for text in overrides]
    known = list(dict.fromkeys(alias for prior in priors for alias in prior.aliases))
    for target, law, text in parsed:
        reached = [prior for prior in priors if target in prior.aliases]
        if not reached:
            raise PriorError(
                f"the prior '{text}' matches no parameter of the model{nearest(target, known)}; it has "
                f"{', '.join(known)}."
            )
        allowed = _SHAPES[law.name][2]
        if reached[0].klass not in allowed:
            fitting = ", ".join(name for name, shape in _SHAPES.items() if reached[0].klass in shape[2])
            raise PriorError(f"{law.name} in '{text}' cannot serve {target}; allowed there are {fitting}.")
        _refuse_out_of_range(reached[0], law, text)
    return tuple(_narrowest(prior, parsed) for prior in priors)


def _refuse_out_of_range(prior: Prior, law: Distribution, text: str) -> None:
    """Refuse a prior whose weight lies where its parameter cannot."""
    if prior.klass in ("b", "cor", "simo"):
        return
    words = {"sd": "an sd", "lapse": "the lapse rate", "sigma": "sigma"}
    what = words.get(prior.klass, "the shift (before the fastest response)")
    if law.name == "uniform" and not prior.low <= law.args[0] < law.args[1] <= prior.high:
        raise PriorError(
            f"the prior '{text}' reaches outside {prior.low:g} to {prior.high:g}, where {what} lies; its low end comes "
            "first."
        )
    frozen = law.frozen()
    if not frozen.sf(prior.low) - frozen.sf(prior.high) > 1e-6:
        end = f"between {prior.low:g} and {prior.high:g}" if np.isfinite(prior.high) else f"above {prior.low:g}"
        raise PriorError(f"the prior '{text}' has no weight {end}, where {what} lies.")


def _narrowest(prior: Prior, parsed: Iterable[tuple[str, Distribution, str]]) -> Prior:
    best, found = -1, prior
    for target, law, text in parsed:
        if target in prior.aliases and prior.aliases.index(target) >= best:
            best = prior.aliases.index(target)
            found = replace(prior, distribution=law, source=text)
    return found


def constants(laws: Sequence[Distribution]) -> Array:
    """Return the constants of distributions, a row each; see `Distribution.constants`."""
    return np.array([law.constants() for law in laws]).reshape(-1, 4)


def positive_constants(laws: Sequence[Distribution]) -> Array:
    """Return the constants of priors of positive parameters, and behind them a typical size of each."""
    return np.column_stack([constants(laws), [law.scale() for law in laws]])


def partial_correlation_shapes(terms: int, eta: float) -> Array:
    """Return, for each partial correlation c of an LKJ(eta) matrix, the a for which (c + 1) / 2 ~ Beta(a, a).

    Order: row by row below the diagonal. Source: Lewandowski, Kurowicka and Joe (2009), the C-vine.
    """
    return np.array([eta + 0.5 * (terms - 2 - column) for row in range(terms) for column in range(row)])


def correlation_cholesky(partial: Array) -> Array:
    """Turn canonical partial correlations, shape ``(..., k)``, into a correlation matrix's Cholesky factor.

    Returns
    -------
    ndarray
        Lower triangular, shape ``(..., q, q)`` with k = q (q - 1) / 2.
    """
    k = partial.shape[-1]
    q = round((1 + np.sqrt(1 + 8 * k)) / 2)
    L = np.zeros((*partial.shape[:-1], q, q))
    L[..., 0, 0] = 1.0
    at = 0
    for row in range(1, q):
        left = np.ones(partial.shape[:-1])
        for column in range(row):
            L[..., row, column] = partial[..., at] * np.sqrt(left)
            left = left * (1.0 - partial[..., at] ** 2)
            at += 1
        L[..., row, row] = np.sqrt(left)
    return L
