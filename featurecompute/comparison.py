"""How much two dictionaries are alike.

In: atoms of two (k x C).  Out: pairs of best-matched atoms and their cosines.  Knows no method and no layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from featurecompute.nmf import unit


def match_atoms(a: Tensor, b: Tensor) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the one-to-one pairs of atoms with the largest sum of cosines, as places in `a` and `b`, and the cosines.

    Where one has fewer atoms, so many pairs there are. A zero atom's cosine is zero.
    """
    cosines = (unit(a.detach().double().cpu()) @ unit(b.detach().double().cpu()).T).numpy()
    left, right = linear_sum_assignment(cosines, maximize=True)
    return left, right, cosines[left, right]


def compare_atoms(a: Tensor, b: Tensor) -> float:
    """Return the mean cosine of the one-to-one best-matched atoms (Hungarian algorithm): 1 for equal dictionaries."""
    return float(match_atoms(a, b)[2].mean())


def stability_of(atoms: Tensor, others: Sequence[Tensor]) -> float | None:
    """Return the mean of `compare_atoms` with each of others, or None without any."""
    return float(np.mean([compare_atoms(atoms, other) for other in others])) if others else None
