"""The trial table: what a good file becomes, and what each fault of a bad one is called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from psychostats.columns import analysed
from psychostats.errors import DataError, InputError
from psychostats.identity import data_hash
from psychostats.trials import check_trials, examine_trials, read_trials, require_columns

NEEDED = ("participant", "representation", "correct")
GOOD = """participant,trial,representation,depth,layer,correct,rt,catch,phase
1,1,local,0,conv9,1,0.5,false,main
1,2,distributed,1,conv10,True,1.5,false,main
2,1,distributed,0,conv9,1.0,0.75,true,main
2,2,local,1,conv10,false,,FALSE,practice
2,3,local,1,conv10,0,2,0,main
2,4,distributed,0,conv9,1,2,0,main
"""


def write(folder: Path, text: str, name: str = "trials.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def messages(source: Any, severity: str = "error", **options: Any) -> list[str]:
    return [fault.message for fault in check_trials(source, **options) if fault.severity == severity]


def only(source: Any, severity: str = "error", **options: Any) -> str:
    (message,) = messages(source, severity, **options)
    return message


def replaced(folder: Path, old: str, new: str) -> Path:
    assert old in GOOD
    return write(folder, GOOD.replace(old, new, 1))


def test_a_good_file_becomes_typed_columns_indexed_by_file_row(tmp_path: Path) -> None:
    frame = read_trials(write(tmp_path, GOOD), needed=NEEDED)
    assert frame.index.name == "row"
    assert frame.index.tolist() == [2, 3, 4, 5, 6, 7]
    assert frame["participant"].tolist() == ["1", "1", "2", "2", "2", "2"]
    assert frame["correct"].dtype == np.int8
    assert frame["correct"].tolist() == [1, 1, 1, 0, 0, 1]
    assert frame["trial"].dtype == np.int64
    assert frame["catch"].dtype == bool
    assert frame["catch"].tolist() == [False, False, True, False, False, False]
    assert frame["rt"].dtype == np.float64
    assert frame["rt"].isna().tolist() == [False, False, False, True, False, False]
    assert frame["representation"].cat.categories.tolist() == ["local", "distributed"]
    assert not frame["representation"].cat.ordered
    assert frame["layer"].cat.categories.tolist() == ["conv9", "conv10"]  # by depth; by code point it is reversed
    assert analysed(frame).tolist() == [True, True, False, False, True, True]
    assert check_trials(write(tmp_path, GOOD), needed=NEEDED) == ()


def test_csv_tsv_parquet_and_frame_give_the_same_trials(tmp_path: Path) -> None:
    frame = read_trials(write(tmp_path, GOOD), needed=NEEDED)
    columns = list(frame)
    tab = write(tmp_path, GOOD.replace(",", "\t"), "trials.TSV")
    wide = tmp_path / "wide.csv"
    wide.write_bytes(GOOD.replace("\n", "\r\n").encode("utf-16"))
    marked = tmp_path / "marked.csv"
    marked.write_bytes(GOOD.encode("utf-8-sig"))
    parquet = tmp_path / "trials.parquet"
    numbers = frame.astype({"participant": float, "correct": float, "phase": "category"})
    numbers.to_parquet(parquet, index=False)
    for source in (tab, wide, marked, parquet, frame, numbers):
        again = read_trials(source, needed=NEEDED)
        assert data_hash(again, columns) == data_hash(frame, columns)
        pd.testing.assert_series_equal(again["representation"], frame["representation"], check_index=False)
    assert read_trials(parquet).index.tolist() == [1, 2, 3, 4, 5, 6]


def test_unknown_columns_are_numbers_only_where_nothing_is_lost(tmp_path: Path) -> None:
    text = "count,share,zip,id,word,empty\n1,0.5,007,12345678901234567890,a,\n2,1e-3,010,12345678901234567891,1,NA\n"
    frame = read_trials(write(tmp_path, text))
    assert frame["count"].tolist() == [1, 2]
    assert frame["count"].dtype == np.int64
    assert frame["share"].tolist() == [0.5, 0.001]
    assert frame["zip"].tolist() == ["007", "010"]
    assert frame["id"].nunique() == 2
    assert frame["word"].tolist() == ["a", "1"]
    assert frame["empty"].isna().all()
    assert read_trials(pd.DataFrame({"period": ["1", "2"]}))["period"].tolist() == ["1", "2"]


def test_a_needed_numeric_column_with_one_typing_error_is_named(tmp_path: Path) -> None:
    days = "\n".join(["days", *(str(day) for day in range(40)), "4O"])
    assert "'4O' in row 42" in only(write(tmp_path, days), "warning", needed=["days"])
    assert messages(write(tmp_path, days), "warning") == []


def test_quoted_newlines_and_blank_lines_keep_physical_row_numbers(tmp_path: Path) -> None:
    text = 'participant,note,correct\np1,"two\nlines, one cell",1\n\np2,"says ""hi""",0\n,,\np3,x,maybe\n'
    assert "'maybe' in row 7" in only(write(tmp_path, text), needed=["correct"])
    frame = read_trials(write(tmp_path, text.replace("maybe", "1")))
    assert frame.index.tolist() == [2, 5, 7]
    assert frame["note"].tolist() == ["two\nlines, one cell", 'says "hi"', "x"]


def test_dates_and_lists_in_parquet_are_kept_as_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"correct": [1, 0], "start": pd.to_datetime(["2024-01-01", None]), "keys": [["a"], []]})
    frame.to_parquet(tmp_path / "t.parquet")
    read = read_trials(tmp_path / "t.parquet")
    assert str(read["start"].iloc[0]).startswith("2024-01-01")
    assert read["keys"].tolist() == ["['a']", "[]"]


@pytest.mark.parametrize(
    ("old", "new", "column", "said"),
    [
        ("conv10,True", "conv10,2", "correct", "'2' in row 3; allowed are 0 and 1"),
        ("conv9,1,0.5", "conv9,1,fast", "rt", "'fast' in row 2; allowed are finite numbers (seconds)"),
        ("conv9,1,0.5", "conv9,1,inf", "rt", "is infinite in row 2; allowed are finite numbers (seconds)"),
        ("conv9,1,0.5", "conv9,1,1_0", "rt", "'1_0' in row 2"),
        ("1,1,local,0", "1,1,local,zero", "depth", "'zero' in row 2"),
        ("1,2,dist", "1,2.5,dist", "trial", "'2.5' in row 3; allowed are whole numbers from 1"),
        ("1,2,dist", "1,0,dist", "trial", "is 0 in row 3; allowed are whole numbers from 1"),
        ("conv9,1,0.5", "conv9,1,-0.5", "rt", "is -0.5 in row 2; allowed are finite numbers from 0"),
    ],
)
def test_a_bad_cell_is_an_error_where_needed_and_a_warning_elsewhere(
    tmp_path: Path, old: str, new: str, column: str, said: str
) -> None:
    path = replaced(tmp_path, old, new)
    fault = next(fault for fault in check_trials(path, needed=[column]) if fault.severity == "error")
    assert said in fault.message
    assert fault.column == column
    assert fault.row in (2, 3)
    assert messages(path) == []
    assert len(messages(path, "warning")) == 1
    read_trials(path)


def test_unreadable_cells_of_a_column_nothing_needs_go_missing(tmp_path: Path) -> None:
    frame = read_trials(replaced(tmp_path, "conv9,1,0.5", "conv9,1,fast"))
    assert frame["rt"].isna().tolist() == [True, False, False, True, False, False]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0.5,false,main", "0.5,perhaps,main", "Column 'catch' holds 'perhaps' in row 2; allowed are true and false"),
        ("0.5,false,main", "0.5,,main", "Column 'catch' is blank in row 2"),
        (
            "false,main",
            "false,Main",
            "Column 'phase' holds 'Main' in row 2; allowed are 'practice', 'main' and 'repeat'",
        ),
        ("1,1,local", ",1,local", "Column 'participant' is blank in row 2"),
    ],
)
def test_columns_that_steer_the_analysis_are_always_judged(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert said in only(replaced(tmp_path, old, new))


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    header = "participant,trial,representation,correct,depth\n"
    text = header + "p1,1,local,2,1.5\np1,1,local,1,0.5\np2,2,distributed,,0.5\np3\n"
    with pytest.raises(DataError) as error:
        read_trials(write(tmp_path, text), needed=[*NEEDED, "pair"])
    said = [fault.message for fault in error.value.faults]
    for part in (
        "header's 5 cells: 5 (1 cells)",
        "Column 'pair' is needed",
        "holds '2'",
        "blank in row 4",
        "repeats in row 3",
    ):
        assert sum(part in message for message in said) == 1, part
    assert len(said) == 5
    assert "1.5 in row 2" in only(write(tmp_path, text), "warning", needed=[*NEEDED, "pair"])


def test_missing_columns_name_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "Participant,corect,RT\np1,1,0.5\n")
    assert "Column 'correct' is needed, but there is none (did you mean 'corect'?)" in only(path, needed=["correct"])
    assert "(did you mean 'RT'?)" in only(path, needed=["rt"])
    assert "Column 'rtt' is to be read as 'rt'" in only(path, columns={"rt": "rtt"}, needed=["rt"])
    assert "The filter names column 'participant'" in only(path, filters={"participant": "p1"})
    assert "Levels are declared for 'layer'" in only(path, levels={"layer": ["a"]})
    with pytest.raises(DataError, match="corect"):
        require_columns(read_trials(path), ["correct", "RT"])
    require_columns(read_trials(path), ["corect", "RT"])


@pytest.mark.parametrize("option", [{"assignment": "mixed"}, {"missing": "ignore"}, {"unanswered": "drop"}])
def test_options_outside_their_list_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="allowed are"):
        check_trials(pd.DataFrame({"correct": [1]}), **option)


def test_columns_are_mapped_and_one_source_may_serve_two_names(tmp_path: Path) -> None:
    path = write(tmp_path, "id,kind,ok,rt\n7,check,TRUE,9\n7,test,FALSE,8\n")
    frame = read_trials(
        path,
        columns={"participant": "id", "phase": "kind", "catch": "kind", "correct": "ok"},
        levels={"phase": {"check": "main", "test": "main"}, "catch": {"check": "true", "test": "false"}},
        needed=["correct"],
    )
    assert set(frame) == {"participant", "phase", "catch", "correct", "rt"}
    assert frame["catch"].tolist() == [True, False]
    assert frame["correct"].tolist() == [1, 0]
    assert analysed(frame).tolist() == [False, True]


def test_levels_order_recode_and_refuse_others(tmp_path: Path) -> None:
    path = write(tmp_path, "representation,site\nsynthetic,b\nnatural,a\n")
    ordered = read_trials(path, levels={"representation": ["synthetic", "natural"]})["representation"]
    assert ordered.cat.categories.tolist() == ["synthetic", "natural"]
    table = {"natural": "local", "synthetic": "distributed"}
    recoded = read_trials(path, levels={"representation": table})
    assert recoded["representation"].tolist() == ["distributed", "local"]
    assert recoded["representation"].cat.categories.tolist() == ["local", "distributed"]
    assert "holds 'synthetic' in row 2; allowed are 'natural'." in only(path, levels={"representation": ["natural"]})
    assert "'b' in row 2; allowed are 'a'" in only(path, levels={"site": {"a": "Aachen"}})
    once_more = read_trials(recoded, levels={"representation": table})
    pd.testing.assert_frame_equal(once_more, recoded)
    assert "give a table" in messages(pd.DataFrame({"rt": [1.0]}), levels={"rt": ["1"]})[0]


def test_blank_cells_can_be_recoded(tmp_path: Path) -> None:
    path = write(tmp_path, "catch,correct\nyes,1\n,0\n")
    frame = read_trials(path, levels={"catch": {"yes": "true", "": "false"}})
    assert frame["catch"].tolist() == [True, False]


def test_neuron_and_dictionary_are_ordered_and_other_text_by_code_point(tmp_path: Path) -> None:
    frame = read_trials(write(tmp_path, "representation\nneuron\ndictionary\n"))
    assert frame["representation"].cat.categories.tolist() == ["neuron", "dictionary"]
    frame = read_trials(write(tmp_path, "representation,layer\nzeta,b\nalpha,a\n"))
    assert not isinstance(frame["representation"].dtype, pd.CategoricalDtype)
    assert not isinstance(frame["layer"].dtype, pd.CategoricalDtype)


def test_filters_compare_text_numbers_and_booleans_and_judge_only_what_is_left(tmp_path: Path) -> None:
    path = write(tmp_path, "id,kind,timeout,size,correct\n1,a,False,1.0,1\n2,b,True,2,0\n3,c,False,3,bad\n")
    shared: dict[str, Any] = {"columns": {"participant": "id"}, "needed": ["correct"]}
    assert "'bad'" in only(path, **shared)

    def kept(**filters: Any) -> list[str]:
        return read_trials(path, filters=filters, **shared)["participant"].tolist()

    assert kept(kind=["a", "b"]) == ["1", "2"]
    assert kept(participant=[1, "2"]) == ["1", "2"]
    assert kept(id="2") == ["2"]  # the file's own name, which the mapping replaced
    assert kept(timeout=False, size=1) == ["1"]
    assert kept(correct=0) == ["2"]
    assert "'kind' asks for 'd', which no row holds" in only(path, "warning", filters={"kind": ["a", "d"]}, **shared)
    assert "keeps none of the 3 rows" in only(path, filters={"kind": "a", "size": 2}, **shared)


def test_filters_see_recoded_values_under_our_name_and_the_files_under_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, "type,correct\nnatural,1\nsynthetic,0\nnone,1\n")
    shared: dict[str, Any] = {
        "columns": {"representation": "type"},
        "levels": {"representation": {"natural": "local", "synthetic": "distributed"}},
    }
    for filters in ({"representation": ["local", "distributed"]}, {"type": ["natural", "synthetic"]}):
        assert read_trials(path, filters=filters, **shared)["representation"].tolist() == ["local", "distributed"]


def test_blank_cells_are_errors_dropped_or_left_to_an_exclusion_rule(tmp_path: Path) -> None:
    text = "participant,phase,pair,correct,rt\np1,practice,,1,1\np1,main,a,,\np1,main,,1,1\np1,main,b,0,1\n"
    path = write(tmp_path, text)
    needed = ["correct", "pair"]
    assert [m.split(";")[0] for m in messages(path, needed=needed)] == [
        "Column 'correct' is blank in row 3",
        "Column 'pair' is blank in row 4",
    ]
    table = examine_trials(path, needed=needed, missing="drop")
    assert table.frame.index.tolist() == [2, 5]  # the practice trial may lack its pair
    assert table.n_dropped == 2
    assert table.frame["correct"].dtype == np.int8
    assert messages(path, needed=["correct", "rt"], unanswered="keep") == []
    frame = read_trials(path, needed=["correct", "rt"], unanswered="keep")
    assert frame["correct"].isna().tolist() == [False, True, False, False]
    blank = write(tmp_path, "participant,correct\np1,\np2,NA\n")
    assert "No trial is left" in only(blank, needed=["correct"], missing="drop")


@pytest.mark.parametrize("stored", ["csv", "frame", "words"])
def test_infinite_cells_are_errors_or_dropped_and_never_make_text_of_a_column(tmp_path: Path, stored: str) -> None:
    text = "participant,phase,correct,x,spare\n" + "".join(
        f"p{row},{'practice' if row == 2 else 'main'},1,{x},{spare}\n"
        for row, (x, spare) in enumerate(
            [("-inf", 1), (0.5, "Infinity"), ("inf", 2), ("", 3), ("1e999", 4), (1.5, 5), ("-Inf", 6), (2.5, 7)], 2
        )
    )
    source: Any = write(tmp_path, text)
    if stored != "csv":
        source = pd.read_csv(source, dtype={"x": str} if stored == "words" else None)
        source.index = pd.RangeIndex(2, 10, name="row")
    said = [(fault.severity, fault.row, fault.message) for fault in check_trials(source, needed=["correct", "x"])]
    advice = "or drop such rows with --missing drop."
    assert said == [
        ("error", 5, f"Column 'x' is blank in row 5; fill it, {advice}"),
        (
            "error",
            4,
            f"Column 'x' is infinite in row 4 (and 2 more rows); allowed are finite numbers; correct it, {advice}",
        ),
        (
            "warning",
            3,
            "Column 'spare' is infinite in row 3, read as missing as nothing needs it; allowed are finite numbers.",
        ),
    ]
    table = examine_trials(source, needed=["correct", "x"], missing="drop")
    assert table.errors == ()
    assert (table.n_dropped, table.n_infinite) == (4, 3)
    assert table.frame.index.tolist() == [2, 3, 7, 9]  # the practice trial may have anything
    assert table.frame["x"].isna().tolist() == [True, False, False, False]
    assert table.frame["x"].tolist()[1:] == (["0.5", "1.5", "2.5"] if stored == "words" else [0.5, 1.5, 2.5])


def test_an_infinite_answer_is_not_an_unanswered_trial(tmp_path: Path) -> None:
    path = write(tmp_path, "participant,correct,rt\np1,inf,1\np1,,inf\np1,1,1\n")
    options: Any = {"needed": ["correct", "rt"], "unanswered": "keep"}
    assert messages(path, **options) == [
        "Column 'correct' is infinite in row 2; allowed are 0 and 1 (or False and True); correct it, or drop such rows "
        "with --missing drop."
    ]  # the rule that removes row 3 removes its response time too


def test_a_word_that_looks_infinite_is_a_level_where_levels_are_words(tmp_path: Path) -> None:
    path = write(tmp_path, "participant,correct,duration,kind\np1,1,50,inf\np1,0,inf,sup\np1,1,100,inf\n")
    frame = read_trials(path, needed=["duration", "kind"], levels={"duration": ["50", "100", "inf"]})
    assert frame["duration"].tolist() == ["50", "inf", "100"]
    assert frame["kind"].tolist() == ["inf", "sup", "inf"]


def test_duplicated_trials_are_named_by_participant_experiment_phase_and_block(tmp_path: Path) -> None:
    again = write(tmp_path, "participant,block,trial,correct\np1,a,1,1\np1,a,1,1\np1,b,1,0\n")
    assert "Column 'trial' repeats in row 3 what row 2 has (participant p1, block a, trial 1)" in only(again)
    for extra in ("block", "phase", "experiment"):
        values = ("practice", "main") if extra == "phase" else ("a", "b")
        fine = f"participant,{extra},trial,correct\np1,{values[0]},1,1\np1,{values[1]},1,1\np2,{values[1]},1,0\n"
        assert messages(write(tmp_path, fine)) == []
        assert len(messages(write(tmp_path, fine.replace(extra, "unknown")))) == 1


def test_numbers_out_of_range_are_kept_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path, "participant,trial,depth,rt,correct\np1,0,1.5,900,1\np1,1,-0.5,1200,1\n")
    said = messages(path, "warning")
    for part in ("'trial' is 0 in row 2", "'depth' is 1.5 in row 2 (and 1 more row)", "looks like milliseconds"):
        assert sum(part in message for message in said) == 1, part
    assert read_trials(path)["depth"].tolist() == [1.5, -0.5]


def test_accuracy_below_chance_is_a_warning_for_the_file_and_for_each_person() -> None:
    reversed_keys = [0] * 25 + [1] * 2
    frame = pd.DataFrame({"participant": ["p1"] * 27 + ["p2"] * 27, "correct": reversed_keys + reversed_keys[::-1]})
    said = messages(frame, "warning")
    assert "Accuracy is 0.074 over 54 analysed trials" in said[0]
    assert "p1 (2 of 27), p2 (2 of 27)" in said[1]
    unlucky = [0] * 14 + [1] * 13  # below a half, but not beyond chance
    assert len(messages(pd.DataFrame({"participant": "p1", "correct": unlucky}), "warning")) == 1
    assert messages(pd.DataFrame({"participant": "p1", "correct": [0] * 27, "catch": True}), "warning") == []


def test_the_participant_rule_has_its_nominal_rate_among_guessers() -> None:
    rng = np.random.default_rng(1)
    people = 100
    flagged = 0
    for _ in range(40):
        correct = rng.integers(0, 2, size=people * 30)
        correct[:1] = 1
        frame = pd.DataFrame({"participant": np.repeat(np.arange(people), 30), "correct": correct})
        flagged += any("below chance" in message for message in messages(frame, "warning"))
    assert flagged <= 7  # at most 5 % of files: P(more than 7 of 40) is 0.0007


def test_data_against_the_declared_assignment_are_an_error(tmp_path: Path) -> None:
    mixed = write(tmp_path, "participant,representation,correct\na,local,1\na,distributed,1\nb,local,1\n")
    assert "lack a representation: b." in only(mixed, assignment="within")
    assert "several representations: a." in only(mixed, assignment="between")
    assert messages(mixed) == []
    assert "one representation while others have more: b." in only(mixed, "warning")
    one = write(tmp_path, "participant,representation,correct\na,local,1\nb,local,1\n")
    assert check_trials(one, assignment="between") == check_trials(one) == ()
    both = {"representation": ["local", "distributed"]}
    assert "lack a representation: a, b." in only(one, assignment="within", levels=both)


@pytest.mark.parametrize("ids", [["5f2b1c9e8d7a6b5c4d3e2f1a", "other"], ["A1B2C3D4E5F6G7", "A12345678901Z"]])
def test_platform_ids_are_replaced_everywhere_before_anything_is_reported(tmp_path: Path, ids: list[str]) -> None:
    session = "0123456789abcdef01234567"
    text = "participant,worker,session,response,correct,trial\n" + "".join(
        f"{one},{one},{session},left,1,1\n" for one in (ids[0], ids[1], ids[0])
    )
    table = examine_trials(write(tmp_path, text))
    assert table.frame["participant"].tolist() == ["P001", "P002", "P001"]
    assert table.frame["worker"].iloc[0] == "P001"
    assert table.frame["session"].tolist() == ["session001"] * 3
    shown = table.frame.to_csv() + " ".join(fault.message for fault in table.faults)
    assert ids[0] not in shown
    assert session not in shown


def test_other_ids_stay_unless_pseudonyms_are_asked_for() -> None:
    frame = pd.DataFrame({"participant": ["b", "a", "b"], "key": ["b", "x", "y"], "correct": [1, 1, 1]})
    assert read_trials(frame)["participant"].tolist() == ["b", "a", "b"]
    forced = read_trials(frame, pseudonymize=True)
    assert forced["participant"].tolist() == ["P001", "P002", "P001"]
    assert forced["key"].tolist() == ["b", "x", "y"]


def test_many_rows_are_read_without_a_fault(tmp_path: Path) -> None:
    row = "p{0},{1},local,0.25,layer1,f{1},{2},0.{1},false,main\n"
    header = "participant,trial,representation,depth,layer,feature,correct,rt,catch,phase\n"
    text = header + "".join(row.format(n // 400, n % 400 + 1, int(n % 400 > 40)) for n in range(50_000))
    table = examine_trials(write(tmp_path, text), needed=NEEDED)
    assert table.faults == ()
    assert len(table.frame) == 50_000


def reference(name: str) -> Path:
    folder = os.environ.get("PSYCHOSTATS_REFERENCE", "")
    path = Path(folder) / name
    if not folder or not path.exists():
        pytest.skip(f"PSYCHOSTATS_REFERENCE does not name a folder with {name}")
    return path


def test_the_raw_published_file_is_read_by_configuration_alone() -> None:
    frame = read_trials(
        reference("borowski2021_experiment_I_raw.csv"),
        columns={
            "participant": "subject_id",
            "trial": "trial_nr",
            "representation": "instr_type",
            "catch": "catch_trial",
            "phase": "trial_type",
            "rt": "RT",
            "confidence": "conf_rating",
            "feature": "unit_name",
        },
        levels={
            "phase": {"practice": "practice", "main": "main", "repeated": "repeat"},
            "representation": ["natural", "optimized"],
        },
        filters={"representation": ["natural", "optimized"]},
        needed=(*NEEDED, "rt", "feature"),
        assignment="within",
    )
    main = frame[analysed(frame)].groupby("representation", observed=True)["correct"].agg(["mean", "size"])
    assert main["size"].tolist() == [450, 450]
    assert main["mean"].round(3).tolist() == [0.922, 0.820]
    assert round(frame.loc[frame["catch"] & (frame["phase"] == "main"), "correct"].mean(), 3) == 0.989


@pytest.mark.parametrize("name", ["exp1.csv", "cbpp.csv", "pastes.csv", "sleepstudy.csv"])
def test_other_reference_tables_are_read_without_configuration(name: str) -> None:
    path = reference(name)
    assert messages(path) == []
    assert len(read_trials(path)) == len(pd.read_csv(path))


def test_columns_that_seem_to_mark_catch_or_practice_trials_are_named():
    frame = pd.DataFrame(
        {"participant": ["a", "b"] * 4, "catch_trial": [False, True] * 4, "trial_type": ["practice", "main"] * 4,
         "correct": [1, 0] * 4}
    )  # fmt: skip
    said = [fault.message for fault in check_trials(frame)]
    assert any("'catch_trial' seems to mark catch trials" in text and "catch=catch_trial" in text for text in said)
    assert any("'trial_type' seems to mark practice trials" in text for text in said)
    mapped = check_trials(frame, columns={"catch": "catch_trial", "phase": "trial_type"})
    assert not any("seems to mark" in fault.message for fault in mapped)


def test_the_table_says_how_many_rows_the_filter_set_aside():
    frame = pd.DataFrame({"participant": ["a", "b"] * 3, "kind": ["x", "x", "y"] * 2, "correct": [1, 0] * 3})
    table = examine_trials(frame, filters={"kind": "x"})
    assert (table.n_rows, table.n_filtered, len(table.frame)) == (6, 2, 4)


def test_all_that_is_missing_is_named_and_the_columns_once():
    said = [fault.message for fault in check_trials(pd.DataFrame({"x": [1.0]}), needed=["a", "b", "c"])]
    assert len(said) == 3 and sum("the columns are" in text for text in said) == 1


def test_messages_are_one_line_without_ids_or_control_characters():
    frame = pd.DataFrame(
        {"participant": ["a", "b"], "rt": ["5f3e2d1c0b9a8f7e6d5c4b3a", "\x1b[2J\nx"], "correct": [1, 0]}
    )
    said = " ".join(fault.message for fault in check_trials(frame, needed=["rt"]))
    assert "[id]" in said and "5f3e" not in said
    turned = " ".join(fault.message for fault in check_trials(frame.iloc[::-1], needed=["rt"]))
    assert "\x1b" not in turned and "\n" not in turned and "[U+001B]" in turned


def test_answers_that_are_all_correct_say_little_and_are_told() -> None:
    frame = pd.DataFrame({"participant": ["a", "b"] * 10, "correct": 1})
    assert "All 20 analysed answers are correct" in only(frame, "warning")
    assert messages(frame.assign(correct=[0] + [1] * 19), "warning") == []
