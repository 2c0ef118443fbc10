"""The ledger: what is written is read, a file is known by its bytes, and damage is named by its line."""

import csv
import re
import subprocess
import sys

import pandas as pd
import pytest
from grown import full_disk, growing_study, new_people, source
from hypothesis import given, settings
from hypothesis import strategies as st

from psychostats.additions import append
from psychostats.errors import InputError
from psychostats.ledger import LEDGER, read_ledger, write_durably
from psychostats.locks import held_alone


@pytest.fixture
def study(tmp_path):
    return growing_study(tmp_path)


def add(study, names=("d",), *, file="d.csv", seed=1):
    return append(read_ledger(study), new_people(list(names), seed), [source(file)], study)


def test_a_study_without_additions_has_an_empty_ledger(study, tmp_path):
    ledger = read_ledger(study)
    assert ledger.path == tmp_path / "study.additions" / "ledger.csv"
    assert tuple(ledger.rows) == LEDGER
    assert (len(ledger.rows), ledger.batches) == (0, 0)
    assert not ledger.path.parent.exists()
    assert ledger.known([source("x.csv")]) == []


def test_what_is_entered_is_read_again(study, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    skipped = source("bad.csv", rows=0, status="skipped", reason="empty")
    first = append(read_ledger(study), new_people(["d", "e"]), [source("d.csv", tool="jsPsych"), skipped], study, "k1")
    second = append(first, new_people(["f"]), [source("f.csv")], study, "k1")
    read = read_ledger(study.path)
    pd.testing.assert_frame_equal(read.rows, second.rows)
    assert read.rows["batch"].tolist() == [1, 1, 2]
    assert read.rows["added"].unique().tolist() == ["1970-01-02T00:00:00Z"]
    assert read.rows["participants"].tolist() == [2, 2, 1]
    assert read.rows["status"].tolist() == ["added", "skipped", "added"]
    assert read.rows["tool"].tolist() == ["jsPsych", "table", "table"]
    assert read.rows["stored"].tolist() == ["0001_trials.parquet"] * 2 + ["0002_trials.parquet"]
    assert set(read.rows["study_sha256"]) == {study.sha256}
    assert set(read.rows["key_fingerprint"]) == {"k1"}
    assert sorted(path.name for path in read.path.parent.iterdir()) == [
        "0001_trials.parquet", "0002_trials.parquet", "ledger.csv",
    ]  # fmt: skip


def test_a_file_is_known_by_its_bytes_whatever_it_is_called(study, tmp_path):
    skipped = source("bad.csv", rows=0, status="skipped")
    ledger = append(read_ledger(study), new_people(["d"]), [source("d.csv"), skipped], study)
    renamed, other = source("copy of d.csv", "d.csv"), source("e.csv")
    own = source("mine.csv", (tmp_path / "trials.csv").read_bytes())
    when = ledger.rows["added"][0]
    # A file that could not be read may be tried again.
    assert ledger.known([other, renamed, own, skipped]) == [(renamed, 1, when), (own, 0, "")]
    for again in (renamed, own):
        with pytest.raises(InputError, match=f"File '{again.name}' (was added as addition 1|is the study's own)"):
            append(ledger, new_people(["e"]), [other, again], study)
    assert read_ledger(study).batches == 1


def test_known_files_are_passed_over(study):
    ledger = append(read_ledger(study), new_people(["d"]), [source("d.csv")], study)
    grown = append(ledger, new_people(["e"]), [source("d.csv", status="known"), source("e.csv")], study)
    assert grown.rows["file"].tolist() == ["d.csv", "e.csv"]
    with pytest.raises(InputError, match="nothing to add"):
        append(grown, new_people(["f"]), [source("e.csv", status="known")], study)


def test_own_trials_in_a_folder_are_known_file_by_file(tmp_path):
    growing_study(tmp_path)
    (tmp_path / "raw" / "day1").mkdir(parents=True)
    (tmp_path / "raw" / "day1" / "p1.json").write_text("[1]")
    path = tmp_path / "study.toml"
    path.write_text(path.read_text().replace('"trials.csv"', '"raw"'))
    assert [batch for _, batch, _ in read_ledger(path).known([source("any", "[1]"), source("x")])] == [0]


NAMES = [
    "=1+1",
    "+a",
    "-a",
    "@SUM(A1)",
    "\ttab",
    "\rreturn",
    "'quoted",
    "''=x",
    "a,b",
    'say "x"',
    "two\nlines",
    "naïve 名前",
    "",
]


def test_no_cell_is_a_formula_and_every_name_comes_back(study):
    ledger = append(read_ledger(study), new_people(["d"]), [source(name or "-", name or "e") for name in NAMES], study)
    assert read_ledger(study).rows["file"].tolist() == [name or "-" for name in NAMES]
    with ledger.path.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@settings(max_examples=25, deadline=None)
@given(names=st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=5))
def test_any_text_survives(names, tmp_path_factory):
    study = growing_study(tmp_path_factory.mktemp("any"))
    files = [source(name, f"{number}") for number, name in enumerate(names)]
    written = append(read_ledger(study), new_people(["d"]), files, study)
    assert read_ledger(study).rows["file"].tolist() == names == written.rows["file"].tolist()


def test_names_hold_no_platform_ids_and_odd_bytes_do_no_harm(study):
    files = [source("5f3a9c2e1b7d4a6f8e0c1d2b/x.csv"), source("bad\udcff.csv")]
    append(read_ledger(study), new_people(["d"]), files, study)
    assert read_ledger(study).rows["file"].tolist() == ["[id]/x.csv", "bad\\udcff.csv"]


def spoil(line, old, new):
    def edit(text):
        lines = text.split("\n")
        assert old in lines[line - 1]
        lines[line - 1] = lines[line - 1].replace(old, new)
        return "\n".join(lines)

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: "", "line 1: its columns must be batch"),
        (spoil(1, "sha256", "hash"), "line 1: its columns must be batch"),
        (lambda text: text.split("\n")[0] + "\n", "line 2: it ends too early"),
        (lambda text: text[:-1], "line 4: it ends too early"),
        (lambda text: text[:-150], "line 4: it has"),
        (lambda text: text + "\n", "line 5: it has 0 cells; allowed are 13"),
        (spoil(3, "1,", "one,"), "line 3: batch is 'one'; allowed is a whole number from 0"),
        (spoil(3, "1,", "3,"), "line 3: batch is 3 after 1"),
        (spoil(2, "1,", "0,"), "line 2: batch is 0 after 0"),
        (spoil(4, "2,", "1,"), "line 4: stored is '0002_trials.parquet'; that of addition 1 is 0001_trials.parquet"),
        (spoil(4, "added", "removed"), "line 4: status is 'removed'; allowed is added and skipped"),
        (spoil(2, "Z,", ","), "line 2: added is '"),
        (spoil(3, ",table,6", ",table,-6"), "line 3: rows is '-6'; allowed is a whole number"),
        (spoil(3, "0001_trials.parquet", "../../secret"), "line 3: stored is '../../secret'"),
        (spoil(3, ",2,added", ",3,added"), "line 3: participants is not that of the line before"),
        (spoil(3, "e.csv", '"e.csv'), "line 3: "),
        (spoil(2, "d.csv", '"d\n.csv"'), None),
        (lambda text: text.replace("\n", "\r\n"), None),
        (lambda text: "\ufeff" + text, None),
    ],
)  # fmt: skip
def test_an_edited_ledger_is_refused_by_its_line(study, edit, said):
    ledger = append(read_ledger(study), new_people(["d", "x"]), [source("d.csv"), source("e.csv")], study)
    append(ledger, new_people(["f"]), [source("f.csv")], study)
    ledger.path.write_bytes(edit(ledger.path.read_text("utf-8")).encode())
    if said is None:  # what a spreadsheet may do in saving it
        assert read_ledger(study).batches == 2
        return
    with pytest.raises(InputError) as error:
        read_ledger(study)
    assert f"{ledger.path} is damaged in {said}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_ledger_that_is_not_utf8_or_not_a_file_is_refused(study):
    ledger = add(study)
    text = ledger.path.read_bytes()
    ledger.path.write_bytes(text.replace(b"d.csv", b"d\xff.csv"))
    with pytest.raises(InputError, match="line 2: it is not UTF-8"):
        read_ledger(study)
    ledger.path.unlink()
    ledger.path.mkdir()
    with pytest.raises(InputError, match=r"ledger\.csv cannot be read: Is a directory"):
        read_ledger(study)


@settings(max_examples=25, deadline=None)
@given(position=st.integers(0, 10_000), byte=st.binary(min_size=1, max_size=3), cut=st.booleans())
def test_damage_is_a_sentence_never_a_traceback(position, byte, cut, tmp_path_factory):
    study = growing_study(tmp_path_factory.mktemp("damage"))
    ledger = add(study)
    text = ledger.path.read_bytes()
    position %= len(text)
    ledger.path.write_bytes(text[:position] + byte + (b"" if cut else text[position:]))
    try:
        assert read_ledger(study).batches == 1
    except InputError as error:
        assert str(ledger.path.parent) in str(error)


def test_a_stored_table_that_changed_or_went_is_named(study):
    ledger = add(study)
    add(study, ["e"], file="e.csv")
    table = ledger.path.with_name("0001_trials.parquet")
    content = table.read_bytes()
    table.write_bytes(content[:-1] + b"x")
    with pytest.raises(InputError, match=re.escape(f"{table} is not the one that was stored")):
        read_ledger(study)
    table.unlink()
    with pytest.raises(InputError, match=re.escape(f"{table}, which the ledger names, cannot be read: No such file")):
        read_ledger(study)
    table.write_bytes(content)
    assert read_ledger(study).batches == 2


def test_a_file_is_written_wholly_or_not_at_all(tmp_path):
    path = tmp_path / "x"
    write_durably(path, b"old")
    with full_disk(10), pytest.raises(OSError, match="File too large"):
        write_durably(path, b"n" * 1000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_one_process_at_a_time_and_the_lock_of_a_killed_one_is_free(tmp_path):
    folder = tmp_path / "additions"
    with (
        held_alone(folder, "adding to"),
        pytest.raises(InputError, match="another process is adding to"),
        held_alone(folder, "adding to"),
    ):
        pass
    assert not folder.exists()
    folder.mkdir()
    code = (
        "import fcntl, sys, time\nlock = open(sys.argv[1], 'a'); fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder / ".lock")], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another process is adding to"), held_alone(folder, "adding to"):
            pass
        other.kill()
    assert (folder / ".lock").exists()
    with held_alone(folder, "adding to"):
        pass
    assert not folder.exists()
