"""Who took part: joined by id, counted, and nobody told by subtraction."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import study_of

from psychostats.demographics import (
    NOT_GIVEN,
    describe_demographics,
    join_demographics,
    read_demographics,
    summarise_demographics,
)
from psychostats.document import Paragraph, Table
from psychostats.errors import DataError
from psychostats.pseudonyms import pseudonym
from psychostats.trials import examine_trials

KEY = bytes(range(32))
HEADER = (
    "Submission id,Participant id,Status,Custom study tncs accepted at,Started at,Completed at,Reviewed at,Archived at,"
    "Time taken,Completion code,Total approvals,Age,Sex,Ethnicity simplified,Country of birth,Country of residence,"
    "Nationality,Language,Student status,Employment status"
)


def prolific(number):
    return f"{0x5F00_0000_0000_0000_0000_0000 + 7919 * number:024x}"


def line(number, age="30", sex="Female", status="APPROVED"):
    """Write a row as Prolific exports it."""
    before = f"{prolific(900 + number)},{prolific(number)},{status},Not Applicable"
    times = ",".join(["2026-11-01T10:00:00.000000Z"] * 4)
    return f"{before},{times},600,ABC123,{number},{age},{sex},White,Germany,Germany,Germany,German,No,Full-Time"


def exported(folder, *lines, header=HEADER):
    path = folder / "prolific_export.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def people(**columns):
    return pd.DataFrame(columns, dtype=object)


def counted(summary, column):
    rows = summary[summary["column"] == column]
    return dict(zip(rows["group"], rows["shown"], strict=True))


def trials_of(*numbers):
    rows = [{"participant": prolific(n), "trial": t, "correct": (n + t) % 2} for n in numbers for t in (1, 2, 3)]
    return pd.DataFrame(rows)


def test_an_export_joins_by_id_before_pseudonyms_replace_it(tmp_path):
    lines = [line(n, str(20 + n), "Male" if n % 2 else "Female") for n in range(12)]
    export = read_demographics(exported(tmp_path, *lines[::-1]))
    for key in (None, KEY):
        table = examine_trials(trials_of(7, 3, 50, 9), export=export, key=key)
        joined, names = table.demographics, table.frame["participant"].unique()
        assert joined.people.index.tolist() == names.tolist()
        assert joined.people["Age"].tolist()[:2] == ["27", "23"] and joined.people["Age"].tolist()[3] == "29"
        assert joined.people["Age"].isna().tolist() == [False, False, True, False]
        assert joined.without_row == {names[2]} and joined.not_in_data == 9
        assert names[0] == ("P001" if key is None else pseudonym(prolific(7), key))
        assert joined.of(names[:2]).without_row == frozenset() and len(joined.of(names[:2]).people) == 2


def test_trials_that_hold_pseudonyms_of_the_key_already_are_found(tmp_path):
    export = read_demographics(exported(tmp_path, line(1, "41"), line(2)))
    name = pseudonym(prolific(1), KEY)
    assert join_demographics(export, {name: name}, KEY).people.loc[name, "Age"] == "41"
    assert join_demographics(export, {name: name}).without_row == {name}


def test_unfinished_submissions_are_counted_and_give_way_to_finished_ones(tmp_path):
    lines = [line(1, "30", status="RETURNED"), line(1, "31"), line(2, "40", status="REJECTED"), line(3, "50")]
    export = read_demographics(exported(tmp_path, *lines))
    joined = join_demographics(export, {prolific(n): f"P{n}" for n in (1, 2, 3)})
    assert joined.people["Age"].tolist() == ["31", "40", "50"]
    assert joined.unfinished == {"P2"} and joined.set_aside == 1 and joined.not_in_data == 0


def test_withheld_data_are_not_given(tmp_path):
    lines = [line(1, "CONSENT_REVOKED", "DATA_EXPIRED"), line(2, "", "Prefer not to say"), *map(line, range(3, 10))]
    export = read_demographics(exported(tmp_path, *lines))
    assert export.people.iloc[:2].isna().to_numpy().all()
    summary = summarise_demographics(export.people, ["Age", "Sex"])
    assert counted(summary, "Age") == {"30–39": "7", NOT_GIVEN: "2"}
    assert counted(summary, "Sex") == {"Female": "7", NOT_GIVEN: "2"}


def test_a_row_that_stands_twice_counts_once_and_rows_that_differ_are_a_fault(tmp_path):
    assert len(read_demographics(exported(tmp_path, line(1), line(1), line(2))).people) == 2
    with pytest.raises(DataError, match="one person that differ: row 4") as told:
        read_demographics(exported(tmp_path, line(1, "30"), line(2), line(1, "31")))
    assert prolific(1) not in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (HEADER.replace("Participant id", "Participant ID"), "did you mean 'Participant ID'"),
        (HEADER.replace("Age", "Agee"), "did you mean 'Agee'"),
        ("", "cannot|rows|cells"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path, header, words):
    with pytest.raises(DataError, match=words):
        read_demographics(exported(tmp_path, line(1), header=header))
    with pytest.raises(DataError, match="does not exist"):
        read_demographics(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is blank in row 3"):
        read_demographics(exported(tmp_path, line(1), line(2).replace(prolific(2), "")))


def test_numbers_are_counted_by_tens_with_small_bins_joined_and_a_median_of_twenty():
    ages = [18, 19] + [23] * 8 + [31] * 9 + [47, 58, 63]
    summary = summarise_demographics(people(Age=list(map(str, ages))), ["Age"])
    assert counted(summary, "Age") == {"10–29": "10", "30–69": "12", "median": "31"}
    assert "median" not in counted(summarise_demographics(people(Age=list(map(str, ages[:19]))), ["Age"]), "Age")
    few = summarise_demographics(people(Age=["31", "44", "31", "62"]), ["Age"])
    assert few["participants"].isna().all() and counted(few, "Age") == {"all who answered": "<5"}


def test_small_groups_become_other_and_a_single_one_hides_another():
    words = ["German"] * 20 + ["Dutch"] * 9 + ["Thai"] * 2 + ["Zulu"] * 3
    assert counted(summarise_demographics(people(L=words), ["L"]), "L") == {"German": "20", "Dutch": "9", "other": "5"}
    words = ["German"] * 20 + ["Dutch"] * 9 + ["Thai", "Zulu"]
    assert counted(summarise_demographics(people(L=words), ["L"]), "L") == {"German": "20", "other": "11"}
    words = ["Female"] * 20 + ["Male"] * 9 + ["Diverse"] * 2
    summary = summarise_demographics(people(Sex=words), ["Sex"])
    assert counted(summary, "Sex") == {"Female": "20", "Diverse": "not shown", "Male": "not shown"}
    assert summary["participants"].isna().tolist() == [False, True, True]


COUNTS = st.lists(st.integers(1, 12), min_size=1, max_size=5)


def told(groups, smallest):
    """Return what is shown of groups, the groups whose count is not, and the sum of those."""
    names = [f"g{number}" for number in range(len(groups))]
    words = [name for name, n in zip(names, groups, strict=True) for _ in range(n)]
    summary = summarise_demographics(people(x=words), ["x"], smallest)
    shown = summary[summary["participants"].notna()]
    hidden = summary.loc[summary["participants"].isna(), "group"].tolist()
    return (
        dict(zip(shown["group"], shown["participants"], strict=True)),
        hidden,
        len(words) - shown["participants"].sum(),
    )


@settings(max_examples=150, deadline=None)
@given(COUNTS, st.integers(3, 6))
def test_no_hidden_count_follows_from_the_total(groups, smallest):
    shown, hidden, rest = told(groups, smallest)
    if sum(groups) < smallest:
        assert shown == {} and hidden == ["all who answered"]
        return
    assert all(n >= smallest for n in shown.values())
    truth = {f"g{number}": n for number, n in enumerate(groups)}
    assert all(shown[name] == truth[name] for name in shown if name in truth)
    assert len(hidden) != 1 and (rest == 0) == (not hidden)
    if not hidden:
        return
    # Whoever knows the total tries every way to divide the rest, one part being small.
    ways = [
        way
        for way in itertools.product(range(1, int(rest)), repeat=len(hidden))
        if sum(way) == rest and sum(n < smallest for n in way) == 1
    ]
    assert tuple(truth[name] for name in hidden) in ways
    assert all(len({way[place] for way in ways}) > 1 for place in range(len(hidden)))
    # And even where the small one is known, and that the others are the smallest, it may have had another size.
    small = next(place for place, name in enumerate(hidden) if truth[name] < smallest)
    most = min(shown.values(), default=rest)
    others = [[n for place, n in enumerate(way) if place != small] for way in ways]
    sizes = {way[small] for way, n in zip(ways, others, strict=True) if min(n) >= smallest and max(n) <= most}
    assert len(sizes) > 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(18, 80), min_size=1, max_size=60), st.integers(2, 6))
def test_bins_hold_everybody_and_nobody_alone(ages, smallest):
    summary = summarise_demographics(people(Age=list(map(str, ages))), ["Age"], smallest)
    bins = summary[~summary["group"].isin(["median"])]
    if len(ages) < smallest:
        assert bins["participants"].isna().all()
        return
    assert bins["participants"].sum() == len(ages) and bins["participants"].min() >= smallest
    for group, n in zip(bins["group"], bins["participants"], strict=True):
        low, high = map(int, group.split("–"))
        assert sum(low <= age <= high for age in ages) == n


def test_who_knows_the_groups_and_the_total_cannot_tell_a_small_group():
    possible = {}
    for counts in itertools.product(range(8), repeat=3):
        words = [group for group, n in zip("ABC", counts, strict=True) for _ in range(n)]
        said = summarise_demographics(pd.DataFrame({"Sex": words}, dtype=object), ["Sex"], 4)
        possible.setdefault((len(words), *map(tuple, said[["group", "shown"]].to_numpy())), []).append(counts)
    for told in possible.values():
        for sizes in zip(*told, strict=True):
            assert len(set(sizes)) > 1 or not 0 < sizes[0] < 4, told


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=6, max_size=30), st.randoms())
def test_the_order_of_people_says_nothing(words, random):
    mixed = words.copy()
    random.shuffle(mixed)
    one, other = (summarise_demographics(people(x=order), ["x"]) for order in (words, mixed))
    pd.testing.assert_frame_equal(one, other)


def test_a_study_names_its_export(tmp_path):
    exported(tmp_path, *map(line, range(6)))
    table = (
        '[[models]]\nname = "main"\n[demographics]\nfile = "prolific_export.csv"\ncolumns = ["Sex", "Nationality"]\n'
    )
    study = study_of(tmp_path, table)
    assert study.export().people.columns.tolist() == ["Sex", "Nationality"]
    with pytest.raises(DataError, match="does not exist"):
        study.export(tmp_path / "other.csv")
    assert study_of(tmp_path, '[[models]]\nname = "main"\n').export() is None


def test_the_words_say_who_is_missing(tmp_path):
    lines = [line(n, str(20 + n)) for n in range(10)] + [line(20, status="RETURNED")]
    export = read_demographics(exported(tmp_path, *lines))
    joined = join_demographics(export, {prolific(n): f"P{n}" for n in (0, 1, 2, 3, 4, 20, 77)})
    summary = summarise_demographics(joined.people, ["Age", "Sex"])
    paragraph, table = describe_demographics(summary, joined)
    assert isinstance(paragraph, Paragraph) and isinstance(table, Table)
    assert "Of 7 analysed participants 1 has no row in it and 1 has returned" in paragraph.words
    assert "5 other people" in paragraph.words and table.frame is summary
    # One has no row, and the table says so though one is few: the note must not deny it.
    assert summary.query("group == 'not given'")["shown"].tolist() == ["1", "1"]
    assert "shown whatever it is" in table.note and "of people who answered are not shown" in table.note
    assert not np.any([prolific(n) in str(summary) for n in range(21)])
