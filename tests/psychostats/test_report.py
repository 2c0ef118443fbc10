"""The report on disk: what the folder holds, what it says first, what a second run keeps, and what it never shows."""

import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from studies import DATA, ODD, ROOT, contents, make_report, odd_report, odd_trials, small_report, study_of

from psychostats.errors import InputError
from psychostats.intervals import Interval
from psychostats.report import TABLES, write_report
from psychostats.study import read_study

FIGURES = {"accuracy", "cells", "contrasts", "convergence", "curve", "groups", "participants", "prior", "ranks"}
FIGURES |= {"items", "feature_checks", "calibration", "flow"}
FIT = {"spec.toml", "summary.csv", "draws.nc", "provenance.json", "timings.json"}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_report(tmp_path_factory)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    return odd_report(tmp_path_factory)


def text_of(html):
    """Return what a page says, tags and embedded images apart."""
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)).replace("&#34;", '"').replace("&lt;", "<")


def without_times(html):
    return html.partition('id="appendix"')[0]


# What the folder holds ---------------------------------------------------------------------------------------------


def test_the_folder_holds_what_the_contract_says(small):
    files = set(small.files())
    fits = {
        f"fits/{model}_{name}/{file}" for model in ("main", "plain") for name in ("first", "second") for file in FIT
    }
    tables = {f"tables/{name}_{table}.csv" for name in ("first", "second") for table in TABLES}
    tables |= {"tables/robustness.csv"}
    figures = {f"figures/{name}.{suffix}" for name in FIGURES for suffix in ("svg", "png")}
    documents = {"report.html", "report.pdf", "report.docx", "references.bib"}
    assert files == documents | fits | tables | figures
    assert TABLES == ("accuracy", "exclusions", "effects", "terms", "checks")


def test_tables_have_the_columns_of_the_contract(small):
    interval = "estimate,sd,conf_low,conf_high,conf_level,interval"
    columns = {
        "accuracy": "experiment,representation,n,correct,accuracy",
        "exclusions": "experiment,step,rule,participants_removed,trials_removed,participants_left,trials_left",
        "effects": f"term,contrast,target,scale,{interval},pd,rope_low,rope_high,rope_share,model,depth,representation",
        "terms": f"term,group,class,{interval},rhat,ess_bulk,ess_tail,model",
        "checks": "name,term,value,limit,verdict,model",
    }
    for name, listed in columns.items():
        table = pd.read_csv(small.out / "tables" / f"first_{name}.csv")
        assert sorted(table.columns) == sorted(listed.split(",")), name
    effects = pd.read_csv(small.out / "tables" / "first_effects.csv")
    assert set(effects["target"]) == {"typical", "population"}
    assert set(effects["scale"]) == {"response", "difference", "odds_ratio", "link"}
    assert set(effects["model"]) == {"main", "plain"}


def test_the_terms_in_a_table_are_those_of_the_fit(small):
    table = pd.read_csv(small.out / "tables" / "second_terms.csv")
    summary = pd.read_csv(small.out / "fits" / "plain_second" / "summary.csv")
    pd.testing.assert_frame_equal(
        table[table["model"] == "plain"].drop(columns="model").reset_index(drop=True), summary
    )


# What it says first -----------------------------------------------------------------------------------------------


def test_what_may_not_be_read_and_what_is_simulated_stand_before_everything(small):
    assert not small.good
    assert any("NOT CONVERGED" in line for line in small.said)
    page = small.html.partition("<header>")[2]
    failed, simulated, contents_, summary = (
        page.index(text)
        for text in (
            "Not converged: the numbers of these fits may not be read",
            "No participant in this report is a person",
            "<nav",
            'id="summary"',
        )
    )
    assert failed < simulated < contents_ < summary
    assert "simulated participants" in page[:failed]
    assert page[:failed].count("<p>") == 0  # nothing of substance comes before the notice
    assert text_of(small.html).count("Simulated participants") >= 2  # the banner and the box


def test_every_warning_of_every_fit_is_in_the_notice(small):
    notice = text_of(small.html.partition('<aside class="callout danger">')[2].partition("</aside>")[0])
    for result in small.analysis.results:
        assert f"{result.model.name}, {result.experiment}" in notice
        for warning in result.fit.warnings:
            assert warning.replace(">", "&gt;") in notice


def test_real_participants_are_not_called_simulated(odd):
    assert "simulated" not in text_of(odd.html).lower()


def test_the_numbers_of_the_page_are_those_of_the_tables(small):
    page = text_of(small.html).replace("\u00a0", " ")
    accuracy = pd.concat(pd.read_csv(small.out / "tables" / f"{n}_accuracy.csv") for n in ("first", "second"))
    for row in accuracy.to_dict("records"):
        cells = (row["experiment"], row["representation"], row["n"], row["correct"], f"{row['accuracy']:.3f}")
        assert " ".join(map(str, cells)) in page
    effects = pd.read_csv(small.out / "tables" / "first_effects.csv").query("model == 'main' and scale == 'difference'")
    for row in effects[effects["contrast"].str.fullmatch("distributed - local")].to_dict("records"):
        shown = [f"{100 * row[name]:+.1f}".replace("-", "−") for name in ("estimate", "conf_low", "conf_high")]
        shown = [re.sub(r"^[+−]0\.0$", "0.0", text) for text in shown]
        assert f"{shown[0]} [{shown[1]}, {shown[2]}]" in page


# The page and the PDF ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["small", "odd"])
def test_the_page_needs_nothing_from_elsewhere(request, which):
    html = request.getfixturevalue(which).html
    assert not re.findall(r"<script|<iframe|<object|<embed|@import", html, flags=re.I)
    sources = re.findall(r"(?:src|href|srcset|data|action)\s*=\s*[\"']?([^\"'\s>]+)", html)
    assert sources
    assert all(one.startswith(("#", "data:")) for one in sources)
    assert all(one.startswith(("data:", "#")) for one in re.findall(r"url\(\s*[\"']?([^\"')]+)", html))
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(set(ids)) == len(ids)
    assert {one[1:] for one in sources if one.startswith("#")} <= set(ids)


@pytest.mark.parametrize("which", ["small", "odd"])
def test_a_browser_shows_the_page_whole(request, browser, which):
    made = request.getfixturevalue(which)
    page = browser(made.out / "report.html")
    assert (page.errors, page.undrawn, page.requests) == ((), (), ())
    assert page.images == made.html.count("<figure") == len(list((made.out / "figures").glob("*.svg")))
    assert not page.overflows
    assert read_study(made.study).study.title in page.text


def pdf_text(path, program):
    made = subprocess.run([program, "-layout", str(path), "-"], capture_output=True, check=True)
    return made.stdout.decode("utf-8")


def test_the_pdf_says_the_same(small, needs_program):
    text = pdf_text(small.out / "report.pdf", needs_program("pdftotext"))
    pages = text.split("\f")
    assert all("SIMULATED PARTICIPANTS" in page.splitlines()[0] for page in pages if page.strip())
    first = " ".join(text.split())
    order = ("A small study", "Not converged: the numbers", "Simulated part", "Contents", "1 Su")
    assert [first.index(words) for words in order] == sorted(first.index(words) for words in order)
    for result in small.analysis.main:
        assert f"In {result.experiment}, " in first
    for warning in small.analysis.results[0].fit.warnings:
        assert warning.split(" (")[0] in first


# What text from data may do: nothing -------------------------------------------------------------------------------


def test_names_that_are_markup_show_as_text(odd, browser, needs_program):
    page = browser(odd.out / "report.html").text
    pdf = re.sub(r"\s+", "", pdf_text(odd.out / "report.pdf", needs_program("pdftotext")))
    about = ("Levels such as @a *b* _c_ are text.", 'An odd study: <b>$x$</b> #read("title")', "A. Nyone & Co <a@b.c>")
    for text in ('#read("x")', "$a$", "<script>alert(1)</script>", *about):
        assert text in page
        assert re.sub(r"\s+", "", text) in pdf
    assert "<script" not in odd.html


def test_platform_ids_are_in_no_file(odd, needs_program):
    ids = [one.encode() for one in odd_trials()["prolific"].unique()]
    files = odd.files()
    files["pdf as text"] = pdf_text(odd.out / "report.pdf", needs_program("pdftotext")).encode()
    for path in odd.out.rglob("draws.nc"):  # compressed, so its bytes alone would not show an id
        for group in ("posterior", "constant_data", "observed_data"):
            with xr.open_dataset(path, group=group) as data:
                files[f"{path} {group}"] = str(
                    {name: data[name].to_numpy().tolist() for name in data.variables}
                ).encode()
    assert not [name for name, content in files.items() for one in ids if one in content]
    assert any(b"P018" in content for content in files.values())


def test_odd_tables_hold_all_pairs_of_levels(odd):
    effects = pd.read_csv(odd.out / "tables" / "all_effects.csv")
    assert effects.loc[effects["scale"] == "difference", "contrast"].unique().tolist() == [
        '$a$ - #read("x")',
        '<script>alert(1)</script> - #read("x")',
        "<script>alert(1)</script> - $a$",
    ]
    assert set(effects["interval"]) == {"hdi"}
    assert "90 % highest-density credible interval" in odd.html
    assert not (odd.out / "figures" / "curve.svg").exists()


def test_three_levels_in_one_experiment_are_not_three_experiments(odd):
    assert not re.search(r"\d of \d experiments", text_of(odd.html))


# A second run ------------------------------------------------------------------------------------------------------


def test_a_second_run_samples_nothing_and_changes_nothing(small, tmp_path):
    shutil.copytree(small.out, tmp_path / "report")
    again = make_report(small.study, small.trials, tmp_path / "report")
    assert sum("nothing changed" in line for line in again.said) == 4
    assert not again.good  # what was not converged is still not
    before, after = small.files(), again.files()
    assert set(before) == set(after)
    same = [name for name in before if name not in ("report.html", "report.pdf", "report.docx")]  # they hold times
    assert [name for name in same if before[name] != after[name]] == []
    assert without_times(small.html) == without_times(again.html)


def test_other_data_or_settings_are_fitted_again(small, tmp_path):
    shutil.copytree(small.out, tmp_path / "report")
    trials = pd.read_csv(small.trials)
    row = trials.index[(trials["experiment"] == "second") & (trials["phase"] == "main") & ~trials["catch"]][0]
    trials.loc[row, "correct"] = 1 - trials.loc[row, "correct"]
    trials.to_csv(tmp_path / "trials.csv", index=False)
    again = make_report(small.study, tmp_path / "trials.csv", tmp_path / "report")
    reused = [line.strip() for line in again.said if "nothing changed" in line]
    assert len(reused) == 2 and all(line.endswith("_first") for line in reused)
    assert (small.out / "tables" / "first_effects.csv").read_bytes() == again.files()["tables/first_effects.csv"]
    assert (small.out / "tables" / "second_effects.csv").read_bytes() != again.files()["tables/second_effects.csv"]


def test_the_order_of_rows_and_unrelated_columns_change_no_table(small, tmp_path):
    trials = pd.read_csv(small.trials)
    trials["note"] = "x"
    trials["rt"] = 2 * trials["rt"]
    trials.to_csv(tmp_path / "trials.csv", index=False)
    shutil.copytree(small.out, tmp_path / "report")
    again = make_report(small.study, tmp_path / "trials.csv", tmp_path / "report")
    assert sum("nothing changed" in line for line in again.said) == 4


# What is not a report stays ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["notes.txt", "figures/mine.pdf", "tables/mine.csv", "figures/sub/x.svg", "data/x"])
def test_a_folder_with_something_else_is_refused_and_left_alone(small, tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    before = contents(tmp_path / "out")
    foreign = "data" if name == "data/x" else "figures/sub" if "sub" in name else name
    with pytest.raises(InputError, match=f"holds '{foreign}', which is no part of a report; give another folder"):
        write_report(read_study(small.study), small.trials, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_folder_where_a_fit_should_go_is_left_alone(small, tmp_path):
    path = tmp_path / "out" / "fits" / "main_first" / "thesis.txt"
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    with pytest.raises(InputError, match="main_first is not empty and holds no fit"):
        write_report(read_study(small.study), small.trials, tmp_path / "out")
    assert contents(tmp_path / "out") == {"fits/main_first/thesis.txt": b"precious"}


def test_a_file_and_a_place_below_a_file_are_no_folders(small, tmp_path):
    (tmp_path / "file").write_text("precious")
    study = read_study(small.study)
    with pytest.raises(InputError, match="file is a file; give a folder for the report"):
        write_report(study, small.trials, tmp_path / "file")
    with pytest.raises(InputError, match=r"cannot be written: .*file is no directory"):
        write_report(study, small.trials, tmp_path / "file" / "report")
    assert (tmp_path / "file").read_text() == "precious"


def test_bad_trials_leave_nothing_behind(small, tmp_path):
    trials = pd.read_csv(small.trials).rename(columns={"pair": "pear"})
    trials.to_csv(tmp_path / "trials.csv", index=False)
    with pytest.raises(InputError, match=r"'pair' is needed, but there is none \(did you mean 'pear'\?\)"):
        write_report(read_study(small.study), tmp_path / "trials.csv", tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_killed_run_leaves_no_report_and_the_next_one_resumes(tmp_path):
    text = ODD.read_text(encoding="utf-8")
    model = text[text.index("[[models]]") : text.index("[effects]")]
    other = model.replace('"main"', '"longer"').replace("draws = 150", "draws = 10000")
    (tmp_path / "study.toml").write_text(text.replace(model, model + other), encoding="utf-8")
    odd_trials().to_csv(tmp_path / "trials.csv", index=False)
    out = tmp_path / "report"
    command = [sys.executable, "-m", "psychostats.cli", "report", str(tmp_path / "trials.csv"), "--out", str(out)]
    command += ["--study", str(tmp_path / "study.toml")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", cwd=ROOT) as running:
        for line in running.stderr:
            if line.startswith("fitting longer"):  # at once: the fast sampler needs a second or so for it
                running.send_signal(signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == ["fits"]
    assert {path.name for path in (out / "fits").iterdir() if not path.name.startswith(".")} == {"main"}
    finished = contents(out / "fits" / "main")
    made = make_report(tmp_path / "study.toml", tmp_path / "trials.csv", out)
    assert [line for line in made.said if "nothing changed" in line] == [
        f"main: nothing changed, answered from {out / 'fits' / 'main'}"
    ]
    assert contents(out / "fits" / "main") == finished
    documents = {"report.html", "report.pdf", "report.docx", "references.bib"}
    assert {path.name for path in out.iterdir()} == documents | {"fits", "figures", "tables"}


# Other shapes of a study -------------------------------------------------------------------------------------------


def test_an_experiment_with_a_path_for_a_name_stays_in_the_folder(tmp_path):
    frame = odd_trials().assign(experiment="../../escape", depth=lambda table: np.linspace(0, 1, len(table)).round(2))
    frame["condition"] = np.where(np.arange(len(frame)) % 2, "neuron", "dictionary")
    frame.to_csv(tmp_path / "trials.csv", index=False)
    study_of(
        tmp_path,
        '[columns]\nparticipant = "prolific"\nrepresentation = "condition"\n[[models]]\nname = "m"\n'
        'formula = "correct ~ representation + depth + (1 | participant)"\ndraws = 100\ntune = 100\n',
    )
    made = make_report(tmp_path / "study.toml", tmp_path / "trials.csv", tmp_path / "in" / "report")
    assert {path.name for path in tmp_path.iterdir()} == {"trials.csv", "study.toml", "in"}
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"report"}
    assert {path.name for path in (made.out / "fits").iterdir()} == {"m_------escape"}
    assert len(list((made.out / "tables").iterdir())) == len(TABLES) + 1  # robustness.csv is of all experiments
    assert (made.out / "figures" / "curve.svg").exists()
    assert "../../escape" in text_of(made.html)
    assert made.analysis.moderator == "depth"


def test_the_published_study_is_reported_by_configuration_alone(reference, tmp_path):
    raw = reference / "borowski2021_experiment_I_raw.csv"
    made = make_report(DATA / "borowski.toml", raw, tmp_path / "report")
    page = text_of(made.html)
    for number in ("0.922", "0.820", "0.989"):
        assert number in page
    assert "natural 450 415 0.922" in page
    assert "optimized 450 369 0.820" in page
    effects = pd.read_csv(made.out / "tables" / "all_effects.csv")
    difference = effects.query("scale == 'difference' and target == 'population'").iloc[0]
    assert difference["contrast"] == "optimized - natural"
    assert difference["conf_high"] < 0
    assert difference["estimate"] == pytest.approx(0.820 - 0.922, abs=0.04)
    assert "simulated" not in page.lower()


def test_the_interval_of_the_study_is_that_of_every_table(odd):
    assert read_study(ODD).effects.as_interval() == Interval("hdi", 0.9)
    terms = pd.read_csv(odd.out / "tables" / "all_terms.csv")
    assert set(terms["interval"]) == {"hdi"} and set(terms["conf_level"]) == {0.9}
    assert "equal-tailed" not in odd.html


@pytest.mark.parametrize("name", ["figures/accuracy.svg", "tables/my_own_effects.csv", "report.html", "report.pdf"])
def test_files_that_bear_a_reports_names_are_left_alone_where_no_report_made_them(small, tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("precious")
    with pytest.raises(InputError, match=f"holds '{name}', which is no part of a report"):
        write_report(read_study(small.study), small.trials, tmp_path / "out")
    assert path.read_text() == "precious"


def test_a_folder_or_a_link_in_the_place_of_a_file_is_left_alone(small, tmp_path):
    shutil.copytree(small.out, tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    shutil.rmtree(tmp_path / "out" / "figures")
    (tmp_path / "out" / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="holds 'figures'"):
        write_report(read_study(small.study), small.trials, tmp_path / "out")
