"""The families by name: the user's words, resolved once into a frozen record.

In: names and numbers.  Out: a `Family`; what one is stands in `family`, the families themselves in `answers`,
`measurements` and `ratings`.
"""

from __future__ import annotations

from psychostats.answers import Answers
from psychostats.errors import InputError, nearest
from psychostats.family import Family, LinkName
from psychostats.measurements import Gaussian, Lognormal, ShiftedLognormal
from psychostats.ratings import Cumulative

#: Families of answers, each right or wrong.
ANSWERS = ("bernoulli", "binomial", "afc")
FAMILIES = (*ANSWERS, "cumulative", "lognormal", "shifted_lognormal", "gaussian")
LINKS = ("logit", "probit")
_MEASUREMENTS: dict[str, tuple[type[Gaussian], LinkName]] = {
    "gaussian": (Gaussian, "identity"),
    "lognormal": (Lognormal, "log"),
    "shifted_lognormal": (ShiftedLognormal, "log"),
}


def resolve_family(
    name: str = "bernoulli",
    *,
    link: str | None = None,
    guess: float | None = None,
    lapse: float | str | None = None,
    unequal: bool = False,
) -> Family:
    """Turn the user's words into a family.

    Parameters
    ----------
    name
        ``bernoulli`` (0/1), ``binomial`` (counts), ``afc`` (m-alternative forced choice), ``cumulative`` (ratings),
        ``lognormal`` or ``shifted_lognormal`` (response times), or ``gaussian`` (scores).
    link
        ``logit`` (default) or ``probit``; ``identity`` for ``gaussian`` and ``log`` for the lognormal ones.
    guess
        Guess rate in [0, 1), for ``afc`` only; default 0.5, two alternatives.
    lapse
        Lapse rate in [0, 1 - guess), default 0; ``estimate`` makes it a parameter, of all participants together.
    unequal
        Whether disc, the reciprocal of a rating's latent scale, differs between rows; for ``cumulative`` only.

    Raises
    ------
    InputError
        If a name is unknown or a rate is outside its range.
    """
    if name not in FAMILIES:
        raise InputError(f"the family '{name}' is unknown{nearest(name, FAMILIES)}; allowed are {', '.join(FAMILIES)}.")
    if name not in ANSWERS and (lapse not in (None, 0.0) or guess is not None):
        raise InputError(f"guess and lapse rates are for answers that are right or wrong; {name} has none.")
    if unequal and name != "cumulative":
        raise InputError(f"disc is of the family cumulative; {name} has none.")
    if name in _MEASUREMENTS:
        maker, only = _MEASUREMENTS[name]
        if link not in (None, only):
            raise InputError(f"the link of the family {name} is {only}; '{link}' is not allowed.")
        return maker(name, only)
    if link is not None and link not in LINKS:
        raise InputError(f"the link '{link}' is unknown{nearest(link, LINKS)}; allowed are {', '.join(LINKS)}.")
    if guess is not None and name != "afc":
        raise InputError(f"a guess rate is for the family afc; '{name}' has none. Use family afc, or leave guess out.")
    chosen: LinkName = "probit" if link == "probit" else "logit"
    if name == "cumulative":
        return Cumulative(name, chosen, disc=None) if unequal else Cumulative(name, chosen)
    if isinstance(lapse, str) and lapse != "estimate":
        try:
            lapse = float(lapse)
        except ValueError:
            raise InputError(
                f"the lapse rate '{lapse}' is no number; give one from 0 to below 1 - guess, or 'estimate'."
            ) from None
    g = (0.5 if name == "afc" else 0.0) if guess is None else float(guess)
    if not 0.0 <= g < 1.0:
        raise InputError(f"the guess rate {g:g} is outside [0, 1).")
    if isinstance(lapse, str):
        return Answers(name, chosen, g, None)
    share = 0.0 if lapse is None else float(lapse)
    if not 0.0 <= share < 1.0 - g:
        raise InputError(f"the lapse rate {share:g} is outside [0, {1.0 - g:g}), the room above the guess rate.")
    return Answers(name, chosen, g, share)
