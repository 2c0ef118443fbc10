"""The reanalysis as a lab meets it: new participants beside a fit or a study, one that grows, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from commands import call
from exports import to_zimmermann
from studies import SMALL, contents, small_report
from test_leaks import leaks, prolific

from psychostats.effects import contrasts
from psychostats.errors import InputError
from psychostats.fit import fit, load_fit
from psychostats.ledger import read_ledger
from psychostats.pooled import POOLED, STUDY
from psychostats.pseudonyms import pseudonym
from psychostats.reanalysis import study_of_fit
from psychostats.reanalysis_report import Asked, report_reanalysis
from psychostats.simulation import write_simulation
from psychostats.study import read_study

pytestmark = pytest.mark.once

KEY = bytes(range(32))
FORMULA = "correct ~ representation * depth + (1 | participant) + (1 | pair)"
FIT = {"spec.toml", "summary.csv", "draws.nc", "provenance.json", "timings.json"}


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """Return the trials of the small study's first experiment and those of new people, as files."""
    folder = tmp_path_factory.mktemp("trials")
    made = {}
    for name, seed in (("old", None), ("new", 11)):
        (folder / name).mkdir()
        write_simulation(read_study(SMALL), folder / name / "all.csv", seed=seed)
        table = pd.read_csv(folder / name / "all.csv")
        made[name] = folder / f"{name}.csv"
        table[table["experiment"] == "first"].to_csv(made[name], index=False)
    return made


@pytest.fixture(scope="module")
def old_fit(trials, tmp_path_factory):
    table = pd.read_csv(trials["old"])
    rows = table[(table["phase"] == "main") & ~table["catch"] & table["correct"].notna()]
    return fit(FORMULA, rows, family="afc", engine="laplace", out=tmp_path_factory.mktemp("fit") / "first").path


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PSYCHOSTATS_KEY", str(tmp_path / "key"))
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    return lambda *arguments: call(capsys, monkeypatch, *arguments)


# Beside a fit ----------------------------------------------------------------------------------------------------


def test_new_people_beside_a_fit(run, trials, old_fit, tmp_path):
    before = contents(old_fit)
    out = tmp_path / "out"
    answer = run("reanalyze", trials["new"], "--like", old_fit, "--missing", "drop", "--out", out, "--json")
    assert answer.code == 0, answer.err
    assert contents(old_fit) == before  # what is given is left as it is
    assert "the fit is given and is not fitted again" in answer.err
    files = set(contents(out))
    tables = {f"tables/all_{kind}.csv" for kind in ("accuracy", "effects", "terms", "checks", "exclusions")}
    tables |= {f"tables/{name}.csv" for name in ("between", "conclusions", "accumulation", "robustness", "files")}
    fits = {f"fits/{name}/{file}" for name in ("new", "pooled") for file in FIT}
    pictures = {f"figures/{name}.{kind}" for name in ("studies", "accumulation", "flow_new") for kind in ("svg", "png")}
    assert files == {"report.html", "report.pdf", "report.docx", "references.bib"} | tables | fits | pictures
    # The tables are what the fits say.
    effects = pd.read_csv(out / "tables" / "all_effects.csv")
    assert set(effects[STUDY]) == {"old", "new", POOLED}
    for name, path in (("old", old_fit), ("new", out / "fits" / "new")):
        found = contrasts(load_fit(path), "representation")
        wanted = found[(found["scale"] == "difference") & (found["target"] == "population")]["estimate"].iloc[0]
        mine = effects[(effects[STUDY] == name) & (effects["scale"] == "difference") & effects["depth"].isna()]
        mine = mine[(mine["target"] == "population") & (mine["contrast"] == "distributed - local")]
        assert mine["estimate"].iloc[0] == pytest.approx(wanted, abs=1e-12)
    data = answer.data
    assert data["converged"] is True and {row["question"] for row in data["conclusions"]} == {"contrast", "change"}
    page = (out / "report.html").read_text(encoding="utf-8")
    for words in ("Did the new data change the conclusion?", "Do the studies differ?", "as participants were added"):
        assert words in page
    assert "Simulated" not in page  # a fit does not say so, and a report claims nothing it does not know


def test_the_pooled_fit_is_that_of_all_trials_with_the_study_as_a_factor(run, trials, old_fit, tmp_path):
    out = tmp_path / "out"
    assert run("reanalyze", trials["new"], "--like", old_fit, "--missing", "drop", "--out", out).code == 0
    parts = []
    for name in ("old", "new"):
        table = pd.read_csv(trials[name])
        rows = table[(table["phase"] == "main") & ~table["catch"] & table["correct"].notna()]
        parts.append(rows.assign(study=name, participant=name + rows["participant"]))
    both = pd.concat(parts)
    both["study"] = pd.Categorical(both["study"], ["old", "new"])
    formula = "correct ~ study * representation * depth + (1 | participant) + (1 | pair)"
    by_hand = fit(formula, both, family="afc", engine="laplace").terms()
    mine = load_fit(out / "fits" / "pooled").terms()
    merged = by_hand.merge(mine, on="term")
    assert len(merged) == len(by_hand)
    np.testing.assert_allclose(merged["estimate_x"], merged["estimate_y"], atol=2e-4)


def test_what_a_fit_stands_for(old_fit):
    study, side = study_of_fit(old_fit)
    assert (study.effects.factor, study.effects.moderator, study.report.group) == (
        "representation",
        "depth",
        "participant",
    )
    assert study.models[0].spec() == load_fit(old_fit).spec
    assert side.made is not None and len(side.kept) == len(load_fit(old_fit).data)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--append"], "--append extends a study, and"),
        (["--missing", "never"], "--missing is 'never'; allowed are error and drop."),
        (["--map", "correct=nowhere"], "nowhere"),
        (["--filter", "experiment=third"], "keeps none of the 384 rows"),
    ],
)
def test_bad_usage_is_one_sentence_and_nothing_is_written(run, trials, old_fit, tmp_path, more, words):
    out = tmp_path / "out"
    answer = run("reanalyze", trials["new"], "--like", old_fit, "--out", out, *more)
    assert answer.code == 2 and words in answer.err and "Traceback" not in answer.err
    assert not out.exists()


def test_several_experiments_beside_one_fit_are_pooled_with_a_warning_as_fit_does(run, trials, old_fit, tmp_path):
    table = pd.read_csv(trials["new"])
    other = table.assign(experiment="second", participant="q" + table["participant"])
    pd.concat([table, other]).to_csv(tmp_path / "two.csv", index=False)
    out = tmp_path / "out"
    answer = run("reanalyze", tmp_path / "two.csv", "--like", old_fit, "--missing", "drop", "--out", out)
    assert answer.code == 0
    for words in (answer.err, (out / "report.html").read_text(encoding="utf-8")):
        assert "several experiments (first, second) are pooled, since the fit names none" in words


def test_rows_that_lack_an_answer_are_dropped_where_the_fit_dropped_some(run, trials, tmp_path):
    formula = ["--formula", FORMULA, "--family", "afc", "--engine", "laplace", "--quiet"]
    assert run("fit", trials["old"], *formula, "--missing", "drop", "--out", tmp_path / "fit").code == 0
    answer = run("reanalyze", trials["new"], "--like", tmp_path / "fit", "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    strict = run("reanalyze", trials["new"], "--like", tmp_path / "fit", "--missing", "error", "--out", tmp_path / "o2")
    assert strict.code == 2 and "Column 'correct' is blank" in strict.err


def test_a_folder_with_other_things_in_it_is_left_alone(run, trials, old_fit, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("mine")
    answer = run("reanalyze", trials["new"], "--like", old_fit, "--out", tmp_path / "out")
    assert answer.code == 2 and "thesis.docx" in answer.err
    assert set(contents(tmp_path / "out")) == {"thesis.docx"}


# Beside a study --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Return a study file with its trials, the report that was made of it, and new people's trials."""
    made = small_report(tmp_path_factory)
    folder = tmp_path_factory.mktemp("lab")
    text = SMALL.read_text().replace("simulated = true", f'simulated = true\ntrials = "{made.trials.as_posix()}"')
    (folder / "study.toml").write_text(text)
    (folder / "new").mkdir()
    write_simulation(read_study(SMALL), folder / "new" / "trials.csv", seed=12)
    new = pd.read_csv(folder / "new" / "trials.csv")
    new["participant"] = [
        prolific(int(one[1:]) + 100 * (exp == "second"))
        for one, exp in zip(new["participant"], new["experiment"], strict=True)
    ]
    new.to_csv(folder / "new.csv", index=False)
    return folder, made


def test_an_unchanged_study_is_not_fitted_again(lab, tmp_path):
    folder, made = lab
    said, out = [], tmp_path / "out"
    asked = Asked(key=KEY, report=made.out)
    found = report_reanalysis(
        str(folder / "new.csv"), folder / "study.toml", out, asked, progress=False, say=said.append
    )
    for experiment in ("first", "second"):
        assert any(line.startswith(f"old, {experiment}: nothing changed, answered from") for line in said)
        assert any(line.startswith(f"fitting new, {experiment}: ") for line in said)
        old = load_fit(made.out / "fits" / f"main_{experiment}").terms()
        pd.testing.assert_frame_equal(found.fits[experiment, "old"].terms(), old)
    assert [one.experiment for one in found.comparisons] == ["first", "second"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Simulated participants" in page
    # Nobody's id stands anywhere.
    assert leaks(*contents(out).values(), "\n".join(said)) == set()
    # The same again computes nothing, and says the same.
    again = []
    report_reanalysis(str(folder / "new.csv"), folder / "study.toml", out, asked, progress=False, say=again.append)
    assert not any(line.startswith("fitting") for line in again)
    assert sum("nothing changed" in line for line in again) == 6


@pytest.fixture
def growing(trials, tmp_path):
    """Return a study of one experiment, fitted quickly, whose people came by a platform."""
    table = pd.read_csv(trials["old"])
    table["participant"] = [prolific(int(one[1:])) for one in table["participant"]]
    table.to_csv(tmp_path / "own.csv", index=False)
    (tmp_path / "study.toml").write_text(
        '[study]\nname = "growing"\ntitle = "Growing"\ntrials = "own.csv"\n[exclusions]\nmissing_response = "drop"\n'
        '[[models]]\nname = "main"\nformula = "correct ~ representation + (1 | participant)"\n'
        "draws = 100\ntune = 100\nchains = 2\n[effects]\n"
    )
    return tmp_path


def test_people_of_a_fit_may_be_called_otherwise(run, trials, tmp_path):
    for name in ("old", "new"):
        pd.read_csv(trials[name]).rename(columns={"participant": "subject"}).to_csv(tmp_path / f"{name}.csv")
    table = pd.read_csv(tmp_path / "old.csv", index_col=0)
    rows = table[(table["phase"] == "main") & ~table["catch"] & table["correct"].notna()]
    fit("correct ~ representation + (1 | subject)", rows, family="afc", engine="laplace", out=tmp_path / "fit")
    answer = run(
        "reanalyze", tmp_path / "new.csv", "--like", tmp_path / "fit", "--missing", "drop", "--out", tmp_path / "out"
    )
    assert answer.code == 0, answer.err
    assert load_fit(tmp_path / "out" / "fits" / "new").data["subject"].nunique() == 24


def test_what_cannot_be_added_is_refused_before_anything_is_fitted(run, trials, growing):
    newcomers(trials, growing / "back.csv", [1, *range(500, 511)])  # one of the study's own, and the same trial numbers
    like = ["--like", growing / "study.toml", "--out", growing / "o1", "--append"]
    answer = run("reanalyze", growing / "back.csv", *like)
    assert answer.code == 2 and "of 1 participant already, so nothing was added" in answer.err
    assert "fitting" not in answer.err and not (growing / "o1").exists()


def newcomers(trials, path, numbers):
    table = pd.read_csv(trials["new"])
    who = {one: prolific(number) for one, number in zip(table["participant"].unique(), numbers, strict=False)}
    table = table[table["participant"].isin(who)]
    table.assign(participant=table["participant"].map(who)).to_csv(path, index=False)


def test_a_study_grows_and_a_file_comes_once(growing, trials, capsys, monkeypatch):
    monkeypatch.setenv("PSYCHOSTATS_KEY", str(growing / "key"))
    (growing / "new").mkdir()
    newcomers(trials, growing / "new" / "may.csv", range(500, 512))
    like = ["--like", growing / "study.toml", "--quiet"]
    first = call(
        capsys, monkeypatch, "reanalyze", growing / "new" / "may.csv", *like, "--out", growing / "o1", "--append"
    )
    assert first.code in (0, 3), first.err
    ledger = read_ledger(growing / "study.toml")
    assert ledger.rows["file"].tolist() == ["may.csv"] and ledger.batches == 1
    # The same file, under another name and beside the study's own.
    again = call(capsys, monkeypatch, "reanalyze", growing / "new" / "may.csv", *like, "--out", growing / "o2")
    assert again.code == 2 and "nothing is new: the file may.csv was added on" in again.err
    own = call(capsys, monkeypatch, "reanalyze", growing / "own.csv", *like, "--out", growing / "o2")
    assert own.code == 2 and "holds the study's own trials" in own.err
    assert not (growing / "o2").exists()
    # A folder that grows: what came before is passed over, and the study is now all 36.
    newcomers(trials, growing / "new" / "june.csv", range(600, 606))
    answer = call(
        capsys,
        monkeypatch,
        "reanalyze",
        growing / "new",
        "--like",
        growing / "study.toml",
        "--out",
        growing / "o3",
        "--append",
    )
    assert answer.code in (0, 3), answer.err
    assert "1 of 2 files came before and are passed over" in answer.err
    assert "of 36 participants" in answer.err and "of 6 participants" in answer.err
    assert read_ledger(growing / "study.toml").batches == 2
    written = [
        path.read_bytes()
        for path in growing.rglob("*")
        if path.is_file() and path.parent != growing / "new" and path.name != "key"
    ]
    written = [one for one in written if one != (growing / "own.csv").read_bytes()]
    # Its key is 0, 1, 2, ..., as indices are; this one was made here.
    assert leaks(*written, answer.err, answer.out) - {"the key"} == set()
    assert not any((growing / "key").read_bytes() in one for one in written)


def test_people_who_took_part_before_are_counted_and_left_out(growing, trials, tmp_path):
    newcomers(trials, growing / "new.csv", [*range(4), *range(700, 712)])
    table = pd.read_csv(growing / "own.csv")
    back = {prolific(number) for number in range(4)} & set(table["participant"])
    asked = Asked(key=KEY)
    found = report_reanalysis(str(growing / "new.csv"), growing / "study.toml", growing / "out", asked, progress=False)
    assert set(found.new.returning) == {pseudonym(one, KEY) for one in back} and len(back) == 3
    assert found.comparisons[0].participants["new"] == 13
    assert "took part in old, as their pseudonyms say" in (growing / "out" / "report.html").read_text()


def test_what_fails_adds_nothing(growing, trials):
    newcomers(trials, growing / "new.csv", range(500, 512))
    table = pd.read_csv(growing / "new.csv")
    table.loc[3, "correct"] = 7
    table.to_csv(growing / "new.csv", index=False)
    asked = Asked(key=KEY, append=True)
    with pytest.raises(InputError, match=r"holds '7\.0' in row 5"):
        report_reanalysis(str(growing / "new.csv"), growing / "study.toml", growing / "out", asked)
    assert not (growing / "study.additions").exists() and not (growing / "out").exists()
    found = report_reanalysis(
        str(growing / "new.csv"), growing / "study.toml", growing / "out", replace(asked, skip_bad=True), progress=False
    )
    flow = pd.read_csv(growing / "out" / "tables" / "first_exclusions.csv")
    flow = flow[flow[STUDY] == "new"].set_index("step")
    assert flow.loc["sessions with faults", "participants_removed"] == 1
    assert found.comparisons[0].participants["new"] == 11
    assert json.loads((growing / "out" / "fits" / "new_first" / "provenance.json").read_text())["data"]["rows"] > 0


def test_recordings_that_come_back_and_files_that_are_broken(growing, trials, tmp_path):
    """Old and new are folders of files called by people, one of each cut off; three people come back."""
    key = [None, None]
    for at, (name, seed) in enumerate((("old", 3), ("new", 4))):
        table = pd.read_csv(trials[name]).drop(columns=["experiment", "stimulus"])
        export = to_zimmermann(table, growing / name, seed=seed)
        key[at] = export.key["stimulus"].str.extract(r"(?P<task>main/task_[0-9]+)/trials/trial_(?P<task_trial>[0-9]+)")
        key[at] = key[at].assign(representation=export.key["representation"]).dropna()
        files = export.files
        files[-1].write_bytes(files[-1].read_bytes()[:500])
        if at:
            for mine, theirs in zip(files[:3], sorted((growing / "old").glob("*.json"))[:3], strict=True):
                text = mine.read_text().replace(mine.stem, theirs.stem)
                mine.unlink()
                (growing / name / theirs.name).write_text(text)
        for path in (growing / name).glob("*.json"):
            path.write_text(path.read_text().replace("main/task_", f"main{at}/task_"))
    joined = pd.concat(rows.assign(task=rows["task"].str.replace("main", f"main{at}")) for at, rows in enumerate(key))
    joined.to_csv(growing / "key.csv", index=False)
    text = (growing / "study.toml").read_text().replace("own.csv", "old")
    recordings = '[recordings]\nmetadata = "key.csv"\nby = "task, task_trial"\n'
    (growing / "study.toml").write_text(text + recordings)
    asked = Asked(key=KEY, append=True, skip_bad=True)
    found = report_reanalysis(str(growing / "new"), growing / "study.toml", growing / "out", asked, progress=False)
    assert len(found.new.returning) == 3
    people = [pd.read_csv(trials[name])["participant"].nunique() for name in ("old", "new")]
    fitted = found.comparisons[0].participants
    assert (fitted["old"], fitted["new"]) == (people[0] - 1, people[1] - 4)
    # The flow says the same, and what is left is what was fitted.
    flow = pd.read_csv(growing / "out" / "tables" / "all_exclusions.csv").query("study == 'new'").set_index("step")
    assert flow.loc["people who took part in old", "participants_removed"] == 3
    assert flow["participants_left"].iloc[-1] == people[1] - 4
    assert flow["participants_removed"].sum() == flow["participants_left"].iloc[0] - flow["participants_left"].iloc[-1]
    written = [*contents(growing / "out").values(), *contents(growing / "study.additions").values()]
    assert not any(
        path.stem.encode() in one for path in growing.rglob("*.json") for one in written if len(path.stem) == 24
    )
    assert read_ledger(growing / "study.toml").batches == 1
    # The same folder again holds nothing new but the file that is cut off.
    with pytest.raises(InputError, match=r"nothing is new: .* files came before, and no other can be read"):
        report_reanalysis(str(growing / "new"), growing / "study.toml", growing / "out", asked, progress=False)


def test_one_new_person_is_refused_before_anything_is_fitted(growing, trials):
    newcomers(trials, growing / "new.csv", [500])
    said = []
    with pytest.raises(InputError, match="new has one participant only"):
        report_reanalysis(
            str(growing / "new.csv"), growing / "study.toml", growing / "out", Asked(key=KEY), say=said.append
        )
    assert not any(line.startswith("fitting") for line in said) and not (growing / "out").exists()
