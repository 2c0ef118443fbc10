"""Which images show what a feature responds to: references at both ends of its order, and two queries to tell apart.

In: a feature's activation in every image, classes.  Out: numbers of images, batch by batch.
Knows no id, no table and no participant.

The recipes, as we read arXiv 2411.03993 (assumed: its protocol is not known to us):

- *natural*: the images at both ends of the order are cut into bins as large as there are batches, and each batch gets
  one image of every bin (the fair batches of Zimmermann et al. 2023): batches are equally strong, and share no image.
- *semantic*: references are spread over classes, and both queries are of one class, so that a shared category says
  nothing about which query belongs to the references.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from featurecompute.errors import StudyError
from featurecompute.study import Experiment, StimuliTable


@dataclass(frozen=True, eq=False)
class Choice:
    """Numbers of the images of one stimulus."""

    target: int
    distractor: int
    references_max: np.ndarray
    references_min: np.ndarray


class Unfit(Exception):
    """Says why no stimulus can be made of a feature."""


def choose_images(
    experiment: Experiment, feature: str, activations: np.ndarray, classes: np.ndarray | None, table: StimuliTable
) -> list[Choice]:
    """Choose the images of each batch of a feature.

    Parameters
    ----------
    experiment
        semantic, or natural (which mixed also builds on).
    feature
        Its id, which what is drawn depends on.
    activations
        Its pooled activation in every image (N).
    classes
        Class of each image (N); needed for semantic.
    table
        ``[stimuli]``.

    Returns
    -------
    list of Choice
        One a batch; no image is in two of them, or twice in one.

    Raises
    ------
    Unfit
        If the feature is the same in all images, or its two ends overlap.

    Notes
    -----
    Equal activations are ordered by a draw, since images are often sorted by class, and the many images in which a
    sparse feature is silent would else be represented by those of the first class.
    """
    values = np.asarray(activations, dtype=np.float64)
    random = generator(table.seed, feature)
    order = np.lexsort((random.permutation(len(values)), -values))
    if values[order[0]] == values[order[-1]]:
        what = "never activates" if values[order[0]] <= 0 else "is equally active in all images"
        raise Unfit(f"feature {feature} {what}, so no image shows what it responds to")
    if experiment == "semantic":
        assert classes is not None
        choices = _semantic(feature, order, values, classes, table, random)
    else:
        choices = _natural(order, table, random)
    for choice in choices:
        weakest = values[[choice.target, *choice.references_max]].min()
        strongest = values[[choice.distractor, *choice.references_min]].max()
        if weakest <= strongest:
            active = int((values > values[order[-1]]).sum())
            raise Unfit(
                f"feature {feature} is above its minimum in {active} images only, too few for references and queries "
                f"of {table.batches} batches to differ from the least activating ones"
            )
    return choices


def _natural(order: np.ndarray, table: StimuliTable, random: np.random.Generator) -> list[Choice]:
    parts = []
    for ranked, count in ((order, table.references_max), (order[::-1], table.references_min)):
        used = count * table.batches
        if table.query is None:
            queries = ranked[used : used + table.batches]
        else:
            window = np.flatnonzero(_inside(len(order), table.query))
            queries = random.permutation(ranked[window[window >= used]])[: table.batches]
        references = [random.permutation(row) for row in ranked[:used].reshape(count, table.batches)]
        parts.append((random.permutation(queries), np.stack(references, axis=1)))
    (targets, most), (distractors, least) = parts
    return [
        # Places in the grid are drawn too: the strongest image would else always lie first.
        Choice(int(target), int(distractor), random.permutation(up), random.permutation(down))
        for target, distractor, up, down in zip(targets, distractors, most, least, strict=True)
    ]


def _inside(count: int, window: tuple[float, float]) -> np.ndarray:
    """Return which ranks of `count` lie in a window of shares; at least one does."""
    # Shares such as 0.29 are no binary numbers: 0.29 * 100 is 28.999….
    first = min(int(window[0] * count + 1e-9), count - 1)
    ranks = np.arange(count)
    return (ranks >= first) & (ranks < max(int(window[1] * count + 1e-9), first + 1))


def _semantic(
    feature: str,
    order: np.ndarray,
    values: np.ndarray,
    classes: np.ndarray,
    table: StimuliTable,
    random: np.random.Generator,
) -> list[Choice]:
    names, labels = np.unique(classes, return_inverse=True)
    free = np.ones(len(values), bool)
    most = _spread(order, labels, table.references_max, table, free, random)
    least = _spread(order[::-1], labels, table.references_min, table, free, random)
    inside = np.ones(len(order), bool) if table.query is None else _inside(len(order), table.query)
    queries: list[tuple[int, int]] = []
    used = np.zeros(len(names), bool)
    for _ in range(table.batches):
        best, worst = (_first(ranked[inside & free[ranked]], labels, len(names)) for ranked in (order, order[::-1]))
        gap = np.where((best >= 0) & (worst >= 0), values[best] - values[worst], -np.inf)
        if not (gap > 0).any():
            raise Unfit(f"no class is left within which feature {feature} is more active in some images than in others")
        # The class within which it differs most; another one for each batch, as long as there are any.
        fresh = np.where(used, -np.inf, gap)
        place = int(np.argmax(fresh if (fresh > 0).any() else gap))
        used[place] = True
        queries.append((int(best[place]), int(worst[place])))
        free[[best[place], worst[place]]] = False
    return [
        Choice(*queries[int(which)], random.permutation(up), random.permutation(down))
        for which, up, down in zip(random.permutation(table.batches), most, least, strict=True)
    ]


def _first(ranked: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return the first image of each class, or -1."""
    found = np.full(count, -1)
    found[labels[ranked[::-1]]] = ranked[::-1]  # the last to be written is the first in order
    return found


def _spread(
    ranked: np.ndarray,
    labels: np.ndarray,
    count: int,
    table: StimuliTable,
    free: np.ndarray,
    random: np.random.Generator,
) -> list[np.ndarray]:
    """Deal images to batches, one each in turn, the next in order whose class the batch has not often enough."""
    ranked = ranked[free[ranked]]
    by_class = ranked[np.argsort(labels[ranked], kind="stable")]
    sizes = np.bincount(labels[ranked], minlength=labels.max() + 1)
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rank = np.empty(len(labels), np.int64)
    rank[ranked] = np.arange(len(ranked))
    taken = np.zeros(len(sizes), np.int64)
    held = np.zeros((table.batches, len(sizes)), np.int64)
    dealt: list[list[int]] = [[] for _ in range(table.batches)]
    for _ in range(count):
        for batch in random.permutation(table.batches):
            open_ = (held[batch] < table.references_per_class) & (taken < sizes)
            if not open_.any():
                raise Unfit("the classes have too few images left for references spread over them")
            heads = by_class[np.minimum(begins + taken, len(by_class) - 1)]
            chosen = int(np.argmin(np.where(open_, rank[heads], len(ranked))))
            dealt[batch].append(int(heads[chosen]))
            taken[chosen] += 1
            held[batch, chosen] += 1
    found = [np.array(images) for images in dealt]
    free[np.concatenate(found)] = False
    return found


def refuse_few(experiment: Experiment, count: int, classes: np.ndarray | None, table: StimuliTable) -> None:
    """Refuse an image set that is too small for the stimuli of an experiment, or has too few classes.

    Parameters
    ----------
    experiment
        natural, semantic or mixed.
    count
        Images.
    classes
        Class of each, or None where images have none.
    table
        ``[stimuli]``.

    Raises
    ------
    StudyError
    """
    needed = table.batches * (table.references_max + table.references_min + 2)
    if count < needed:
        raise StudyError(
            f"[stimuli] needs {needed} images for {table.batches} batches of {table.references_max} and "
            f"{table.references_min} references and two queries, but there are {count}; give more images, or ask for "
            "fewer batches or references."
        )
    if experiment != "semantic":
        if table.query is not None:
            _refuse_window("query", table.query, count, table.batches, table)
        if min(table.practice, table.practice_hard):
            _refuse_window("practice_query", table.practice_query, count, 1, table)
        return
    if classes is None:
        raise StudyError(
            "[stimuli] experiments names 'semantic', which needs every image's class, and some images have none; leave "
            "it out, or give images in folders by class."
        )
    there = len(np.unique(classes))
    least = max(2, -(-max(table.references_max, table.references_min) // table.references_per_class))
    if there < least:
        raise StudyError(
            f"[stimuli] experiments names 'semantic', whose references are of {least} classes or more (at most "
            f"{table.references_per_class} of one class), but the images have {there}; raise references_per_class, ask "
            "for fewer references, or leave it out."
        )


def _refuse_window(name: str, window: tuple[float, float], count: int, batches: int, table: StimuliTable) -> None:
    if window[1] > 0.5:
        raise StudyError(
            f"[stimuli] {name} is {list(window)}; its second share must be 0.5 at most, since distractors are drawn "
            "from the mirrored shares, which else meet it."
        )
    inside = np.flatnonzero(_inside(count, window))
    left = int((inside >= max(table.references_max, table.references_min) * batches).sum())
    if left < batches:
        needed = f"{batches} are needed, one a batch" if batches > 1 else "one is needed"
        raise StudyError(
            f"[stimuli] {name} is {list(window)}, a window of {len(inside)} images of which {left} lie beyond the "
            f"references; {needed}, so take a wider or a later window."
        )


def generator(seed: int, what: str) -> np.random.Generator:
    """Return a generator that depends on the seed and on what it is for, and on nothing that is drawn beside it."""
    digest = hashlib.sha256(what.encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype="<u4").tolist()])
