"""Planted ids of people are in no byte of what check, fit and report write or say."""

import contextlib
import io
import shutil
import subprocess
import zipfile
import zlib

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from commands import call

from psychostats.pseudonyms import pseudonym

KEY = bytes(range(32))
PEOPLE, TRIALS = 8, 12
NAMES = ["Zaphod", "Trillian", "Marvinius", "Fenchurch", "Slartibart", "Agrajaghus", "Deepthought", "Vogonjeltz"]


def prolific(number):
    return f"{0x5F2B_0000_0000_0000_0000_0000 + 104_729 * number:024x}"


def turk(number):
    return f"A{'ZQ7XK'}{100_000_000 + 7919 * number}"[:14]


def session(number):
    return f"{0x6ABC_0000_0000_0000_0000_0000 + 1_299_709 * number:024x}"


def mail(number):
    return f"guest{number}.zz@planted-mail.example.org"


def address(number):
    return f"198.51.100.{200 + number}"


PLANTED = [made(n) for made in (prolific, turk, session, mail, address) for n in range(PEOPLE)] + NAMES

# What each begins with is looked for first: there are many.
STEMS = {made(0)[:8]: [made(n) for n in range(PEOPLE)] for made in (prolific, turk, session)}
STEMS |= {"planted-mail": [mail(n) for n in range(PEOPLE)], "198.51.100.2": [address(n) for n in range(PEOPLE)]}
STEMS |= {name: [name] for name in NAMES}


def recorded():
    """Give trials as a browser experiment records them, with ids in every column that can hold text."""
    rng = np.random.default_rng(8)
    people = np.repeat(np.arange(PEOPLE), TRIALS)
    trial = np.tile(np.arange(TRIALS), PEOPLE)
    of = {name: np.array([made(n) for n in range(PEOPLE)])[people] for name, made in MAKERS.items()}
    table = pd.DataFrame(
        {
            "participant": of["prolific"],
            "session": of["session"],
            "trial": trial + 1,
            "representation": np.where(trial % 2, "distributed", "local"),
            "depth": np.round(trial / TRIALS, 2),
            "pair": [f"pair{n // 2}" for n in trial],
            "feature": [f"feature{n}" for n in trial],
            "stimulus": [f"s{n}" for n in trial],
            "response": np.where(trial % 3, "left", "right"),
            "correct": rng.binomial(1, 0.75, len(trial)),
            "rt": np.round(rng.lognormal(1, 0.4, len(trial)), 3),
            "confidence": rng.integers(1, 4, len(trial)).astype(object),
            "workerId": of["turk"],
            "email": of["mail"],
            "ip": of["address"],
            "Name": np.array(NAMES)[people],
            "url": [f"https://lab.example/?PROLIFIC_PID={one}&SESSION_ID=x" for one in of["prolific"]],
            "comment": [f"I am {NAMES[n]}, worker {turk(n)}, {mail(n)}" for n in people],
        }
    )
    # Where other things have their names, a participant's id is one all the same.
    table.loc[table["pair"] == "pair1", "pair"] = prolific(2)
    table.loc[table["feature"] == "feature4", "feature"] = f"{prolific(3)}_4"
    table.loc[3, "stimulus"], table.loc[5, "response"] = prolific(0), turk(1)
    table.loc[7, "confidence"], table.loc[9, "confidence"] = mail(4), address(5)
    return table


MAKERS = {"prolific": prolific, "turk": turk, "session": session, "mail": mail, "address": address}

STUDY = """
[study]
name = "planted"
title = "A study with planted ids"
[[models]]
name = "main"
draws = 20
tune = 20
chains = 2
"""

EXPORT = "Participant id,Status,Age,Sex\n" + "".join(
    f"{prolific(n)},APPROVED,{20 + n},{'Male' if n % 2 else 'Female'}\n" for n in range(PEOPLE + 3)
)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with trials whose file's name holds ids too, a study, an export and a key."""
    folder = tmp_path_factory.mktemp("planted")
    trials = folder / f"data_{prolific(6)}_{turk(6)}.csv"
    recorded().to_csv(trials, index=False)
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    (folder / "export.csv").write_text(EXPORT, encoding="utf-8")
    (folder / "key").write_bytes(KEY)
    (folder / "key").chmod(0o600)
    return folder, trials


def pieces(path):
    """Yield everything that can be read out of a file: its bytes, and those of what is packed in it."""
    content = path.read_bytes()
    yield path.name.encode()
    yield from unpacked(content)
    if path.suffix == ".parquet":
        yield pq.read_table(path).to_pandas().to_csv().encode()
    if path.suffix == ".pdf" and shutil.which("pdftotext"):
        done = subprocess.run(["pdftotext", path, "-"], capture_output=True, check=True)
        yield done.stdout.replace(b"\n", b"")
        yield done.stdout


def unpacked(content):
    """Yield bytes, and what zlib and zip hold within them."""
    yield content
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                yield member.filename.encode()
                yield from unpacked(archive.read(member))
    for mark in (b"\x78\x9c", b"\x78\xda", b"\x78\x01", b"\x78\x5e"):
        at = content.find(mark)
        while at >= 0:
            with contextlib.suppress(zlib.error):
                yield zlib.decompressobj().decompress(memoryview(content)[at:])
            at = content.find(mark, at + 1)


def leaks(*parts):
    """Return the planted ids that stand in bytes or text, in any case and in UTF-8 or UTF-16."""
    whole = [(part.encode() if isinstance(part, str) else part).lower() for part in parts]
    found = {"the key"} if any(KEY in part or KEY.hex().encode() in part for part in whole) else set()
    for stem, words in STEMS.items():
        text = stem.lower().encode()
        forms = (text, text.decode().encode("utf-16-le")[:-1])  # which stands in the big-endian form too
        held = [part for part in whole if any(form in part for form in forms)]
        found |= {word for word in words for part in held if word.lower().encode() in part.replace(b"\0", b"")}
        found |= {stem} if held and not found & set(words) else set()
    return found


def leaked_files(folder):
    """Return file -> what is planted in it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files
    found = {path.relative_to(folder).as_posix(): leaks(*pieces(path)) for path in files}
    return {name: words for name, words in found.items() if words}


def test_the_search_finds_what_is_planted(tmp_path, given):
    _, trials = given
    assert all(word.startswith(stem) or stem in word for stem, words in STEMS.items() for word in words)
    assert leaks(turk(3).encode("utf-16-be"), mail(1).upper()) == {turk(3), mail(1)}
    assert leaks(b"\1" + KEY) == leaks(KEY.hex()) == {"the key"}
    assert set(PLANTED) <= leaks(*pieces(trials))
    with zipfile.ZipFile(tmp_path / "a.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f"<w:t>{mail(2)}</w:t>" * 50)
    (tmp_path / "b.png").write_bytes(b"\x89PNG" + zlib.compress(turk(3).encode() * 9))
    pd.DataFrame({"who": [prolific(1)] * 50}).to_parquet(tmp_path / "c.parquet", compression="zstd")
    (tmp_path / f"{prolific(4)}.txt").write_bytes(b"")
    assert set.union(*leaked_files(tmp_path).values()) == {mail(2), turk(3), prolific(1), prolific(4)}


@pytest.mark.parametrize(
    "more", [[], ["--json"], ["--privacy"], ["--privacy", "--json"], ["--formula", "correct ~ confidence + ip + Nome"]]
)
@pytest.mark.parametrize("keyed", [False, True])
def test_check_says_no_id(given, capsys, monkeypatch, more, keyed):
    folder, trials = given
    answer = call(capsys, monkeypatch, "check", trials, *more, *(["--key", folder / "key"] if keyed else []))
    assert answer.code == (2 if "--formula" in more else 0) and answer.out
    assert leaks(answer.out, answer.err) == set()


@pytest.mark.parametrize("name", [f"{prolific(1)}.csv", f"{turk(2)}.xyz", f"{mail(3)}.parquet"])
def test_a_file_that_cannot_be_read_is_named_without_ids(tmp_path, capsys, monkeypatch, name):
    for command in (["check"], ["check", "--privacy"], ["fit", "--formula", "correct ~ 1", "--out", tmp_path / "fit"]):
        answer = call(capsys, monkeypatch, command[0], tmp_path / name, *command[1:])
        assert answer.code == 2 and answer.out + answer.err
        assert leaks(answer.out, answer.err) == set()


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("who", ["participant", "workerId", "session", "comment"])
def test_fit_writes_no_id(given, tmp_path, capsys, monkeypatch, keyed, who):
    folder, trials = given
    out = tmp_path / "fit"
    formula = f"correct ~ representation + (1 | {who}) + (1 | pair)"
    key = ["--key", folder / "key"] if keyed else []
    said = [
        call(capsys, monkeypatch, "fit", trials, "--formula", formula, "--engine", "laplace", "--out", out, *key),
        call(capsys, monkeypatch, "summary", out, "--random"),
        call(capsys, monkeypatch, "summary", out, "--random", "--json"),
        call(capsys, monkeypatch, "effects", out, "representation"),
    ]
    assert [one.code for one in said] == [0] * 4
    assert leaks(*(one.out + one.err for one in said)) == set()
    assert leaked_files(out) == {}
    shown = said[1].out
    assert (pseudonym(prolific(2), KEY) if keyed else "P003") in shown  # as a pair
    if who == "workerId":
        assert (pseudonym(turk(2), KEY) if keyed else "workerId003") in shown


def test_a_report_writes_no_id(given, tmp_path, capsys, monkeypatch):
    folder, trials = given
    out = tmp_path / "report"
    monkeypatch.setenv("PSYCHOSTATS_KEY", str(folder / "key"))
    export = ["--demographics", folder / "export.csv"]
    answer = call(capsys, monkeypatch, "report", trials, "--study", folder / "study.toml", "--out", out, *export)
    assert answer.code in (0, 3), answer.err
    assert leaks(answer.out, answer.err) == set()
    assert leaked_files(out) == {}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Who took part" in page and "8 analysed participants" in page and "3 other people" in page


def test_a_key_in_the_output_folder_is_refused(given, tmp_path, capsys, monkeypatch):
    folder, trials = given
    out = tmp_path / "out"
    for command in (["report", trials, "--study", folder / "study.toml"], ["fit", trials, "--formula", "correct ~ 1"]):
        answer = call(capsys, monkeypatch, *command, "--out", out, "--key", out / "key")
        assert answer.code == 2 and "output folder" in answer.err and len(answer.err.splitlines()) == 1
        assert not out.exists()
