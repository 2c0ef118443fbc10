"""Who sees what, when, and on which side: a list of trials for each place in the design, and how balanced they are.

In: stimuli, the design.  Out: the tables of trial lists and of balance.  Knows no image and no answer.

Pairs are dealt from shuffled decks, so that each is seen equally often. Where a participant sees both representations,
two participants get the same pairs, and what is local for one is distributed for the other: so each feature is seen
equally often too. Sides are coloured along Euler circuits of the graph of participants and features, which halves the
trials of every participant and of every feature at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
import pandas as pd

from featurecompute.errors import StudyError
from featurecompute.study import Design

REPRESENTATIONS = ("local", "distributed")
_GOLDEN = (5**0.5 - 1) / 2


def make_lists(stimuli: pd.DataFrame, features: pd.DataFrame, design: Design, seed: int) -> pd.DataFrame:
    """Make the trial lists of all experiments that the design has participants for.

    Parameters
    ----------
    stimuli
        Table of stimuli, with versions.
    features
        Table of features: representation, layer and depth by ``feature``.
    design
        Participants, trials, assignment.
    seed
        Of all that is drawn.

    Returns
    -------
    DataFrame
        Rows of trial_lists.parquet.

    Raises
    ------
    StudyError
        If a participant would see more main trials than there are pairs, more catch trials or more practice trials
        than there are stimuli for.
    """
    parts = []
    for experiment, people in design.participants.items():
        mine = stimuli[stimuli["experiment"] == experiment]
        if len(mine) and people:
            parts.append(_list_experiment(experiment, people, mine, features, design, seed))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def refuse_design(experiment: str, pairs: int, practice: int, catch: int, design: Design) -> None:
    """Refuse a design that asks for more than there is.

    Parameters
    ----------
    experiment
        Name of the experiment.
    pairs, practice, catch
        Pairs, and stimuli of practice and catch, that it has.

    Raises
    ------
    StudyError
    """
    for name, wanted, there, what in (
        ("main", design.main, pairs, "pairs, and a participant sees each once at most; ask for fewer trials or more"),
        ("catch", design.catch, catch, "catch stimuli; raise [stimuli] catch, or ask for fewer"),
        ("practice", design.practice, practice, "practice stimuli; raise [stimuli] practice, or ask for fewer"),
    ):
        if wanted > there:
            tail = " [features] neurons" if name == "main" else ""
            raise StudyError(f"[design] {name} is {wanted}, but experiment '{experiment}' has {there} {what}{tail}.")


def _list_experiment(
    experiment: str, people: int, stimuli: pd.DataFrame, features: pd.DataFrame, design: Design, seed: int
) -> pd.DataFrame:
    random = np.random.default_rng([seed, *experiment.encode()])
    representation = features.set_index("feature")["representation"]
    main = stimuli[(stimuli["phase"] == "main") & ~stimuli["catch"]]
    main = main.assign(representation=main["feature"].map(representation))
    catch = stimuli[stimuli["catch"].astype(bool)]
    practice = stimuli[stimuli["phase"] == "practice"]
    pairs = main.merge(features[["feature", "depth"]], on="feature").drop_duplicates("pair").sort_values("depth")
    refuse_design(experiment, len(pairs), len(practice), len(catch), design)
    shown = _assign(pairs["pair"].to_numpy(), pairs["depth"].to_numpy(), people, design, random)
    shown["feature"] = _lookup(main, ["pair", "representation"], "feature", shown)
    shown["batch"] = _choose_batches(shown, int(main["batch"].max()) + 1, random)
    shown["stimulus"] = _lookup(main, ["pair", "representation", "batch"], "stimulus", shown)
    shown["position"] = _spread_positions(shown, random)
    rows = [shown[["person", "stimulus", "position"]].assign(catch=False)]
    rows.append(_assign_catch(shown, catch, people, design.catch, random))
    trials = pd.concat(rows, ignore_index=True).sort_values(["person", "position"], kind="stable")
    first = pd.DataFrame(
        [
            {"person": person, "stimulus": stimulus, "catch": False}
            for person in range(people)
            for stimulus in practice["stimulus"].iloc[len(practice) - design.practice :]  # the hardest are the last
        ]
    )
    trials = pd.concat([first, trials], ignore_index=True).sort_values("person", kind="stable").reset_index(drop=True)
    trials["trial"] = trials.groupby("person").cumcount() + 1
    about = stimuli.set_index("stimulus").loc[trials["stimulus"], ["feature", "pair", "phase", "version"]]
    trials = pd.concat([trials, about.reset_index(drop=True)], axis=1)
    known = features.set_index("feature")[["representation", "layer", "depth"]]
    trials = trials.join(known, on="feature")
    trials["target_side"] = _choose_sides(trials, random)
    width = len(str(people))
    trials["participant"] = [f"{experiment}-{person + 1:0{width}}" for person in trials["person"]]
    return trials.assign(experiment=experiment).drop(columns=["person", "position"])


def _lookup(table: pd.DataFrame, keys: list[str], value: str, rows: pd.DataFrame) -> pd.Series:
    found = table.drop_duplicates(keys).set_index(keys)[value]
    return pd.Series(found.loc[pd.MultiIndex.from_frame(rows[keys])].to_numpy(), index=rows.index)


def _assign(
    pairs: np.ndarray, depths: np.ndarray, people: int, design: Design, random: np.random.Generator
) -> pd.DataFrame:
    """Return which pairs each person sees, and in which representation."""
    rows: list[tuple[int, str, str]] = []
    if design.assignment == "between":
        for place, basis in enumerate(REPRESENTATIONS):
            persons = range(place, people, 2)  # every other one, whoever comes when
            for person, hand in zip(persons, _hands(depths, design.main, len(persons), random), strict=True):
                rows += [(person, pairs[card], basis) for card in hand]
    else:
        for couple, hand in enumerate(_hands(depths, design.main, -(-people // 2), random)):
            # Of two cards of like depth one is local and one is not, so that neither basis is seen at greater depth.
            turns = random.integers(2, size=len(hand))
            for place, card in enumerate(sorted(hand, key=lambda card: depths[card])):
                for person in (2 * couple, 2 * couple + 1)[: people - 2 * couple]:
                    rows.append((person, pairs[card], REPRESENTATIONS[(turns[place // 2] + place + person) % 2]))
    return pd.DataFrame(rows, columns=["person", "pair", "representation"]).sort_values("person", kind="stable")


def _hands(depths: np.ndarray, size: int, number: int, random: np.random.Generator) -> Iterator[list[int]]:
    """Deal hands from shuffled decks, one deck after the other; no card is twice in a hand."""
    waiting: list[int] = []
    for _ in range(number):
        hand, waiting = waiting[:size], waiting[size:]
        if len(hand) < size:
            deck = _shuffle(depths, random)
            first = [card for card in deck if card not in hand][: size - len(hand)]
            hand, waiting = hand + first, [card for card in deck if card not in first]
        yield hand


def _shuffle(depths: np.ndarray, random: np.random.Generator) -> list[int]:
    """Return the cards in an order in which every stretch holds all depths about equally."""
    place = np.empty(len(depths))
    for depth in np.unique(depths):
        mine = random.permutation(np.flatnonzero(depths == depth))
        place[mine] = (np.arange(len(mine)) + random.random(len(mine))) / len(mine)
    return [int(card) for card in np.argsort(place, kind="stable")]


def _choose_batches(shown: pd.DataFrame, batches: int, random: np.random.Generator) -> pd.Series:
    """Return a batch for each showing: each feature's in turn, and another one where a person sees a feature twice."""
    counts: dict[tuple[str, str], np.ndarray] = {}
    seen: dict[tuple[int, str], set[int]] = {}
    found = []
    for person, pair, representation, feature in zip(
        shown["person"], shown["pair"], shown["representation"], shown["feature"], strict=True
    ):
        used = counts.setdefault((pair, representation), random.random(batches) / 2)
        before = seen.setdefault((person, feature), set())
        cost = used + [len(shown) * (batch in before) for batch in range(batches)]
        batch = int(np.argmin(cost))
        used[batch] += 1
        before.add(batch)
        found.append(batch)
    return pd.Series(found, index=shown.index)


def _spread_positions(shown: pd.DataFrame, random: np.random.Generator) -> pd.Series:
    """Return places from 0 to 1 in each person's session.

    A feature's places from person to person are multiples of the golden ratio, less whole numbers: the sequence that
    covers an interval most evenly, however many there are (Weyl; Knuth, The Art of Computer Programming 3, 6.4).
    """
    key = shown["pair"] + "/" + shown["representation"]
    start = {name: random.random() for name in dict.fromkeys(key)}
    number = shown.groupby(key).cumcount()
    return (key.map(start) + number * _GOLDEN) % 1


def _assign_catch(
    shown: pd.DataFrame, catch: pd.DataFrame, people: int, wanted: int, random: np.random.Generator
) -> pd.DataFrame:
    """Return catch trials, equally often, of pairs and images that the person does not see otherwise where possible.

    A direction that pairs share has its images in each of them, so that another pair is not yet other images.
    """
    used = random.random(len(catch)) / 2
    pairs, images = catch["pair"].to_numpy(), list(zip(catch["feature"], catch["batch"], strict=True))
    seen = shown.groupby("person")["pair"].agg(set)
    sets: dict[int, set[tuple[str, int]]] = {person: set() for person in range(people)}
    for person, feature, batch in zip(shown["person"], shown["feature"], shown["batch"], strict=True):
        sets[person].add((feature, batch))
    rows = []
    for person in range(people):
        known = np.array(
            [(pair in seen[person]) + (held in sets[person]) for pair, held in zip(pairs, images, strict=True)], float
        )
        chosen = np.argsort(used + known * (people + 1) * len(catch), kind="stable")[:wanted]
        used[chosen] += 1
        # One in each part of the session, so that attention is watched all along.
        places = (np.arange(wanted) + random.random(wanted)) / max(wanted, 1)
        for which, place in zip(random.permutation(chosen), places, strict=True):
            rows.append((person, catch["stimulus"].iloc[which], place, True))
    return pd.DataFrame(rows, columns=["person", "stimulus", "position", "catch"])


def _choose_sides(trials: pd.DataFrame, random: np.random.Generator) -> list[str]:
    """Return on which side the target is: left on half of each person's trials in a basis, and of each feature's.

    Main trials of each basis, catch and practice trials are coloured apart. Participants and features (of catch and
    practice, stimuli) are the nodes of a bipartite graph and trials its edges; along its circuits, sides alternate.
    """
    sides = np.empty(len(trials), dtype=object)
    main = (trials["phase"] == "main") & ~trials["catch"]
    things = (trials["pair"] + "/" + trials["feature"]).where(main, trials["stimulus"])
    kinds = trials["representation"].where(main, trials["phase"])
    for kind in dict.fromkeys(kinds):
        rows = np.flatnonzero(kinds == kind)
        ends = pd.factorize(things.iloc[rows])[0]
        sides[rows] = np.where(_halve(trials["person"].to_numpy()[rows], ends, random), "left", "right")
    return sides.tolist()


def _halve(one: np.ndarray, other: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Colour the edges of a bipartite graph: at every node the two colours differ by one edge at most.

    Parameters
    ----------
    one, other
        Ends of each edge, from 0 on each side.

    Notes
    -----
    An edge to an extra node on the other side makes each odd degree even. A walk along unused edges then ends where it
    began, after an even number of them since the graph is bipartite, so alternating colours along it halve every node
    that it passes (the Euler split of edge colouring, Gabow 1976).
    """
    edges = [(int(a), -1 - int(b)) for a, b in zip(one, other, strict=True)]
    degree: dict[int, int] = {}
    for edge in edges:
        for end in edge:
            degree[end] = degree.get(end, 0) + 1
    spare_one, spare_other = max(degree, default=0) + 1, min(degree, default=0) - 1
    extra = [(end, spare_other) if end >= 0 else (spare_one, end) for end, n in degree.items() if n % 2]
    # Both extra nodes have odd degrees or neither has, since the edges of both sides are equally many.
    if sum(end >= 0 for end, n in degree.items() if n % 2) % 2:
        extra.append((spare_one, spare_other))
    every = edges + extra
    beside: dict[int, list[int]] = {}
    for number in random.permutation(len(every)):
        for end in every[number]:
            beside.setdefault(end, []).append(int(number))
    colour = np.full(len(every), -1)
    for start in random.permutation(len(every)):
        if colour[start] >= 0:
            continue
        node, turn = every[start][0], int(random.integers(2))
        for step in count(turn):
            while beside[node] and colour[beside[node][-1]] >= 0:
                beside[node].pop()
            if not beside[node]:
                break
            number = beside[node].pop()
            colour[number] = step % 2
            a, b = every[number]
            node = b if node == a else a
    return np.asarray(colour[: len(edges)] == 0)


def measure_balance(lists: pd.DataFrame) -> pd.DataFrame:
    """Return how balanced trial lists are.

    Parameters
    ----------
    lists
        Trial lists.

    Returns
    -------
    DataFrame
        Rows of balance.parquet: for each experiment and quantity the least, mean and most over groups.
    """
    rows = []
    for experiment, every in lists.groupby("experiment", sort=False) if len(lists) else ():
        last = every.groupby("participant")["trial"].transform("max")
        first = every[every["phase"] == "practice"].groupby("participant")["trial"].max()
        skipped = every["participant"].map(first).fillna(0)
        every = every.assign(place=(every["trial"] - skipped - 0.5) / (last - skipped))
        main = every[(every["phase"] == "main") & ~every["catch"]]
        main = main.assign(left=main["target_side"] == "left", local=main["representation"] == "local")
        # Batches of a feature are numbered alike in all its pairs, and the number ends a stimulus's id.
        images = main["feature"] + "/" + main["stimulus"].str.rsplit("/", n=1).str[-1]
        main = main.assign(again=main.assign(images=images).duplicated(["participant", "images"]))
        catch = every[every["catch"]]
        shown, by_person = ["pair", "representation"], ["participant", "representation"]
        for quantity, values in (
            ("main trials of a participant", main.groupby("participant").size()),
            ("pairs of a participant", main.groupby("participant")["pair"].nunique()),
            ("local trials of a participant", main.groupby("participant")["local"].sum()),
            ("mean depth of a participant", main.groupby("participant")["depth"].mean()),
            ("target left, of a participant in a representation", main.groupby(by_person)["left"].mean()),
            ("image sets seen again by a participant", main.groupby("participant")["again"].sum()),
            ("catch trials of a participant", catch.groupby("participant").size()),
            ("showings of a pair", main.groupby("pair").size()),
            ("showings of a feature of a pair", main.groupby(shown).size()),
            ("showings of a stimulus", main.groupby("stimulus").size()),
            ("showings of a catch stimulus", catch.groupby("stimulus").size()),
            ("target left, of a feature of a pair", main.groupby(shown)["left"].mean()),
            ("mean place in the session, of a feature of a pair", main.groupby(shown)["place"].mean()),
            ("mean place in the session, of a representation", main.groupby("representation")["place"].mean()),
        ):
            if len(values):
                rows.append((experiment, quantity, len(values), values.min(), values.mean(), values.max()))
    return pd.DataFrame(rows, columns=["experiment", "quantity", "groups", "least", "mean", "most"])
