"""An observer in silico: the trials that people answer, answered by how similar images are in one space of vectors.

In: stimuli, trial lists, vectors of the images shown.  Out: a table of trials as psychostats reads it, and the
probability of each correct answer.  Knows no network, no pixel and no person.

The decision. A query's evidence is its mean similarity to the references that drive the feature most, less that to
those that drive it least; the observer takes the query with more of it. d is the evidence of the target less that of
the distractor, so d > 0 is correct. The references are all that is known of a feature, as for people.

Similarity is the cosine after the images' mean is taken off. Without the mean taken off, what all images share (a
bright sky, a layer's mean activation) makes each similar to each. Without lengths divided out, an image of high
contrast would be like everything on its side of the mean, and one noise would not mean the same in all spaces.

An observer of `SEEKING` does not compare whole images: it looks for one thing, as a person does who asks what nine
pictures have in common. Its vectors say which of some known elements are in an image. It takes the element whose
presence differs most between the references of the two ends, and judges the queries by that element alone: d is that
difference (from 0 to 1) if only the target has the element, its negative if only the distractor has it, and 0
otherwise. Of elements that differ equally it has no preference: d is the mean over them. That people look for one
thing is assumed. Observers that weigh all elements are right nearly always where features are an object or three, and
so cannot tell a feature that stands for one thing from one that stands for several.

The noise is normal and is added to d; its SD is `noise` times the SD of d over an experiment's main stimuli. A trial's
number comes from a hash of what names the trial, so an answer does not depend on which other trials are asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse, special

from featurecompute.errors import ImageError, RunError

TIE = 1e-9
"""A smaller d, of at most 4, is rounding, and counts as none."""

SEEKING = ("elements",)
"""Spaces in which an observer looks for the one element that the references share, rather than compare whole images."""

_NODES = special.ndtri((np.arange(99) + 0.5) / 99)  # of a standard normal, equally likely

_KEY = ["experiment", "participant", "trial"]
_OF_TRIAL = ["participant", "experiment", "trial", "phase", "catch", "representation", "layer", "depth", "feature"]
_OF_TRIAL += ["pair", "stimulus", "version"]
_BY = ["observer", "experiment", "representation", "layer"]


# The decision ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """What an observer makes of stimuli before any noise.

    Parameters
    ----------
    d
        Evidence for the target less that for the distractor (n), from -4 to 4; of an observer that looks for one thing,
        from -1 to 1.
    sd
        SD of the noise that is added to it (n), the same within an experiment.
    terciles
        Bounds (n x 2) of |d + noise| between confidence 1, 2 and 3: over an experiment's main stimuli, each is equally
        frequent.
    """

    d: np.ndarray
    sd: np.ndarray
    terciles: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        """Probability of a correct answer, Phi(d / SD of the noise); without noise 1, 0, or for d = 0 a half."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.d / self.sd
        return np.asarray(special.ndtr(np.where(self.d == 0, 0, ratio)))


def weigh(
    stimuli: pd.DataFrame, vectors: Mapping[str, np.ndarray], ids: Sequence[str], *, space: str, noise: float
) -> Evidence:
    """Weigh the evidence of every stimulus.

    Parameters
    ----------
    stimuli
        Table of stimuli, as `manifest.STIMULI`.
    vectors
        Name of a space to the vectors of the images shown (n x dimensions).
    ids
        The images' ids (n), in the same order; the mean that is taken off is that over these images.
    space
        Which of them the observer sees; in those of `SEEKING` it looks for one thing.
    noise
        SD of the noise, in SDs of d over the main stimuli of an experiment that are no catch stimuli.

    Raises
    ------
    ImageError
        If a stimulus names an image without a vector, or vectors cannot be used.
    RunError
        If a stimulus has no references, or an experiment no main stimulus.
    """
    seen = _centred(vectors, ids, space)
    if space not in SEEKING:
        seen = _unit_vectors(seen)
    place = {image: number for number, image in enumerate(ids)}
    names = stimuli["stimulus"].tolist()

    def find(stimulus: str, image: str) -> int:
        if image not in place:
            raise ImageError(f"stimulus '{stimulus}' shows image '{image}', which has no vector in space '{space}'.")
        return place[image]

    entries: list[tuple[int, int, float]] = []
    for row, (name, most, least) in enumerate(
        zip(names, stimuli["references_max"], stimuli["references_min"], strict=True)
    ):
        before = len(entries)
        for sign, references in ((1.0, most), (-1.0, least)):
            shown = [] if references is None else list(references)
            entries += [(row, find(name, image), sign / len(shown)) for image in shown]
        if len(entries) == before:
            raise RunError(f"stimulus '{name}' has no references; an observer needs at least one.")
    rows, columns, weights = zip(*entries, strict=True) if entries else ((), (), ())
    sums = sparse.csr_matrix((weights, (rows, columns)), shape=(len(names), len(ids)))
    target, distractor = (
        [find(name, image) for name, image in zip(names, stimuli[column], strict=True)]
        for column in ("query_target", "query_distractor")
    )
    wanted = sums @ seen
    d = np.einsum("nd,nd->n", seen[target] - seen[distractor], _commonest(wanted) if space in SEEKING else wanted)
    d[np.abs(d) < TIE] = 0
    return _with_noise(stimuli, d, noise)


def _with_noise(stimuli: pd.DataFrame, d: np.ndarray, noise: float) -> Evidence:
    """Return the evidence with the SD of its noise and the bounds of confidence, experiment by experiment."""
    experiments = stimuli["experiment"].to_numpy(object)
    counted = _main(stimuli)
    sd, terciles = np.zeros(len(d)), np.zeros((len(d), 2))
    for experiment in dict.fromkeys(experiments):
        here = experiments == experiment
        main = d[here & counted]
        if not len(main):
            raise RunError(
                f"experiment '{experiment}' has no main stimulus; observers take the scale of their noise from those."
            )
        sd[here] = noise * main.std()
        terciles[here] = np.quantile(np.abs(main[:, None] + noise * main.std() * _NODES), (1 / 3, 2 / 3))
    return Evidence(d, sd, terciles)


def _main(table: pd.DataFrame) -> np.ndarray:
    """Return which stimuli or trials are main ones and do not check attention."""
    return ((table["phase"] == "main") & ~table["catch"].astype(bool)).to_numpy(bool)


def _commonest(differences: np.ndarray) -> np.ndarray:
    """Return the largest of each row's differences where it stands, shared out where it stands more than once, else 0.

    A row without a positive difference has nothing to look for, and is 0.
    """
    most = differences.max(axis=1, keepdims=True)
    chosen = (differences > most - TIE) & (most > TIE)
    return np.asarray(most * chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1))


def _centred(vectors: Mapping[str, np.ndarray], ids: Sequence[str], space: str) -> np.ndarray:
    """Return a space's vectors less their mean, float64."""
    if space not in vectors:
        raise ImageError(f"there are no vectors of space '{space}'; there are those of {', '.join(vectors) or 'none'}.")
    given = np.asarray(vectors[space], np.float64)
    if given.ndim != 2 or len(given) != len(ids):
        raise ImageError(f"space '{space}' has vectors of shape {given.shape} for {len(ids)} images, a row an image.")
    if len(set(ids)) < len(ids):
        twice = next(image for number, image in enumerate(ids) if image in ids[:number])
        raise ImageError(f"image '{twice}' has more than one vector in space '{space}'.")
    strange = ~np.isfinite(given).all(1)
    if strange.any():
        raise ImageError(
            f"image '{ids[int(strange.argmax())]}' has a vector in space '{space}' that is not finite throughout."
        )
    centred = np.where(np.ptp(given, axis=0) == 0, 0, given - given.mean(0))
    if not centred.any():
        raise ImageError(f"all images have the same vector in space '{space}', in which an observer sees nothing.")
    return np.asarray(centred)


def _unit_vectors(centred: np.ndarray) -> np.ndarray:
    """Return vectors of length 1; an image at the mean is like no other: 0."""
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    there = length > 1e-12 * length.max()
    return np.asarray(np.where(there, centred / np.where(there, length, 1), 0))


# Answers ---------------------------------------------------------------------------------------------------------


def observe(
    trial_lists: pd.DataFrame,
    stimuli: pd.DataFrame,
    vectors: Mapping[str, np.ndarray],
    ids: Sequence[str],
    *,
    space: str,
    noise: float,
    seed: int,
) -> pd.DataFrame:
    """Answer trials.

    Parameters
    ----------
    trial_lists
        Trials to answer, as `manifest.TRIAL_LISTS`.
    stimuli, vectors, ids, space, noise
        As of `weigh`.
    seed
        Of the noise, and of the coin that answers where d + noise is 0.

    Returns
    -------
    DataFrame
        A row a trial, in the order given: the columns of the trial list (but for ``target_side``), ``response`` (left,
        right), ``correct`` (0, 1), ``rt`` (null: an observer takes no time), ``confidence`` (1 to 3), ``observer`` (the
        space) and ``simulated`` (true). Participants are named after the space too: ``pixel-natural-001``.

    Raises
    ------
    ImageError, RunError
        As `weigh`; RunError also if a trial shows an unknown stimulus.
    """
    evidence = weigh(stimuli, vectors, ids, space=space, noise=noise)
    place = pd.Index(stimuli["stimulus"]).get_indexer(pd.Index(trial_lists["stimulus"]))
    if (place < 0).any():
        trial = trial_lists.iloc[int((place < 0).argmax())]
        raise RunError(
            f"trial {trial['trial']} of participant '{trial['participant']}' shows stimulus '{trial['stimulus']}', "
            "which is not among the stimuli."
        )
    keys = [trial_lists[name] for name in _KEY]
    draws = np.array([_draw(seed, space, *key) for key in zip(*keys, strict=True)]).reshape(-1, 2)
    sensed = evidence.d[place] + evidence.sd[place] * special.ndtri(draws[:, 0])
    correct = np.where(sensed == 0, draws[:, 1] < 0.5, sensed > 0)
    left = (trial_lists["target_side"] == "left").to_numpy(bool) == correct
    found = trial_lists[_OF_TRIAL].reset_index(drop=True)
    return found.assign(
        participant=f"{space}-" + found["participant"],
        response=np.where(left, "left", "right"),
        correct=correct.astype(np.int64),
        rt=np.nan,
        confidence=1 + (np.abs(sensed)[:, None] > evidence.terciles[place]).sum(1),
        observer=space,
        simulated=True,
    )


def _draw(seed: int, space: str, experiment: str, participant: str, trial: int) -> tuple[float, float]:
    """Return two uniform numbers, inside 0 to 1, that belong to a trial and to nothing else."""
    key = json.dumps([int(seed), space, experiment, participant, int(trial)])
    digest = hashlib.sha256(key.encode()).digest()
    one, other = (int.from_bytes(digest[start : start + 8], "little") >> 12 for start in (0, 8))
    return (one + 0.5) / 2**52, (other + 0.5) / 2**52


def accuracies(
    stimuli: pd.DataFrame,
    features: pd.DataFrame,
    vectors: Mapping[str, np.ndarray],
    ids: Sequence[str],
    *,
    noise: float,
) -> pd.DataFrame:
    """Return the probability of a correct answer to each stimulus, in every space, in closed form.

    Parameters
    ----------
    stimuli, vectors, ids, noise
        As of `weigh`.
    features
        Table of features, as `manifest.FEATURES`: each stimulus's representation, layer and depth.

    Returns
    -------
    DataFrame
        ``observer, stimulus, experiment, phase, catch, feature, pair, representation, layer, depth, d, noise_sd,
        probability``, a row a space and stimulus.

    Raises
    ------
    ImageError, RunError
        As `weigh`.
    """
    kept = stimuli[["stimulus", "experiment", "phase", "catch", "feature", "pair"]]
    about = features[["feature", "representation", "layer", "depth"]]
    kept = kept.merge(about, on="feature", how="left", validate="many_to_one")
    parts = []
    for space in vectors:
        found = weigh(stimuli, vectors, ids, space=space, noise=noise)
        part = kept.assign(d=found.d, noise_sd=found.sd, probability=found.probability)
        part.insert(0, "observer", space)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def summarise(found: pd.DataFrame) -> pd.DataFrame:
    """Return the mean probability of a correct answer by observer, experiment, representation and layer.

    Parameters
    ----------
    found
        What `accuracies` gave; only main stimuli that are no catch stimuli count.

    Returns
    -------
    DataFrame
        ``observer, experiment, representation, layer, depth, probability`` (mean), ``sd`` (over stimuli, divided by
        n), ``n`` (stimuli), in the order of depth: a first guess of people's accuracy for a power calculation.
    """
    groups = found[_main(found)].groupby(_BY, sort=True)
    table = groups.agg(
        depth=("depth", "first"),
        probability=("probability", "mean"),
        sd=("probability", lambda values: values.std(ddof=0)),
        n=("probability", "size"),
    ).reset_index()
    return table.sort_values([*_BY[:3], "depth"], kind="stable", ignore_index=True)
