"""The command line: data on stdout, talk on stderr, an exit code, and one clear sentence for whatever is wrong."""

import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from studies import ODD, ROOT, SMALL, contents, odd_report

from psychostats import __version__, nuts

FORMULA = "correct ~ representation + depth + (1 | participant)"


def table(rows=480, people=16):
    """Give trials with a strong effect, which few draws settle; phase, catch and two blanks as recordings have them."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "participant": [f"p{i:02d}" for i in np.arange(rows) * people // rows],
            "trial": np.arange(rows) % (rows // people) + 1,
            "representation": np.array(["local", "distributed"])[np.arange(rows) % 2],
            "depth": rng.integers(0, 5, size=rows) / 4,
            "phase": "main",
            "catch": False,
        }
    )
    effect = rng.normal(0, 0.7, size=people)[np.arange(rows) * people // rows]
    eta = 0.3 + 1.0 * (frame["representation"] == "distributed") - 0.5 * frame["depth"] + effect
    return frame.assign(correct=rng.binomial(1, 1 / (1 + np.exp(-eta))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Give a folder with trials, and with one fit of them once `fitted` was asked for."""
    path = tmp_path_factory.mktemp("cli")
    table().to_csv(path / "trials.csv", index=False)
    return path


@pytest.fixture
def fitted(folder, run):
    """Give the directory of a converged fit."""
    if not (folder / "fit").exists():
        answer = run("fit", folder / "trials.csv", "--formula", FORMULA, "--out", folder / "fit", "--quiet")
        assert (answer.code, answer.err) == (0, "")
        assert answer.out.startswith(f"Formula: {FORMULA}")
    return folder / "fit"


# What commands print -----------------------------------------------------------------------------------------------


def test_a_fit_writes_prints_and_is_answered_from_its_directory(fitted, folder, run):
    before = contents(fitted)
    assert set(before) == {"spec.toml", "summary.csv", "draws.nc", "provenance.json", "timings.json"}
    again = run("fit", folder / "trials.csv", "--formula", FORMULA, "--out", fitted)
    assert again.code == 0
    assert f"{fitted} already holds this fit; nothing was computed." in again.err
    assert again.out == run("summary", fitted).out
    assert contents(fitted) == before


def test_another_fit_in_the_same_place_needs_overwrite(fitted, folder, run):
    before = contents(fitted)
    other = ("fit", folder / "trials.csv", "--formula", FORMULA, "--seed", "2", "--draws", "20", "--tune", "20")
    refused = run(*other, "--out", fitted)
    assert refused.code == 2
    assert refused.err.splitlines()[-1].startswith(f"error: {fitted} holds another fit")
    assert contents(fitted) == before
    shutil.copytree(fitted, folder / "copy")
    replaced = run(*other, "--out", folder / "copy", "--overwrite", "--quiet")
    assert replaced.code == 3  # 20 draws do not converge
    assert replaced.out.startswith("NOT CONVERGED: these numbers may not be read.")
    assert contents(folder / "copy") != before


SUMMARY = {
    "": "schema fit interval sampler likelihood converged checks priors terms warnings",
    "fit": "path engine engine_reason formula family link guess lapse n_trials n_dropped groups levels coding "
    "covariance",
    "interval": "kind probability label",
    "sampler": "chains draws tune seed divergences treedepth_hits",
    "likelihood": "logLik df nobs AIC BIC REML singular singular_terms",
}


def test_the_summarys_json_is_that_of_the_contract(fitted, run):
    answer = run("summary", fitted, "--json")
    assert (answer.code, answer.err) == (0, "")
    found = answer.data
    for place, keys in SUMMARY.items():
        assert set(found[place] if place else found) == set(keys.split()), place
    assert set(found["checks"][0]) == {"name", "term", "value", "limit", "verdict"}
    assert set(found["priors"][0]) == {"class", "group", "coef", "prior", "source"}
    assert found["fit"]["covariance"] == [{"group": "participant", "terms": ["Intercept"], "structure": "single"}]
    assert found["fit"]["levels"] == {"representation": ["local", "distributed"]}
    assert (found["fit"]["n_trials"], found["fit"]["n_dropped"], found["fit"]["groups"]) == (
        480,
        0,
        {"participant": 16},
    )
    assert found["converged"] is True
    summary = pd.read_csv(fitted / "summary.csv")
    assert [row["term"] for row in found["terms"]] == summary["term"].tolist()
    assert [row["estimate"] for row in found["terms"]] == summary["estimate"].tolist()  # full precision
    levels = run("summary", fitted, "--json", "--random").data["terms"]
    assert len(levels) == len(summary) + 16
    assert sum(row["class"] == "r" for row in levels) == 16


def test_what_has_no_value_is_null_in_json(folder, run):
    few = ("--chains", "1", "--draws", "3", "--tune", "20")
    answer = run("fit", folder / "trials.csv", "--formula", FORMULA, "--out", folder / "few", *few, "--json", "--quiet")
    assert answer.code == 3
    assert any(row["ess_bulk"] is None or row["rhat"] is None for row in answer.data["terms"])
    assert answer.data["converged"] is False
    assert all(line.startswith("NOT CONVERGED: ") for line in answer.err.splitlines())
    for command in (("summary", "--json"), ("effects", "representation", "--contrast", "pairwise", "--json")):
        later = run(command[0], folder / "few", *command[1:])
        assert later.code == 3
        assert later.err.startswith("NOT CONVERGED: ")
        assert later.data


COLUMNS = (
    "term contrast target scale estimate sd conf_low conf_high conf_level interval pd rope_low rope_high rope_share"
)


def test_effects_print_means_contrasts_and_slopes(fitted, run):
    means = run("effects", fitted, "representation", "--json").data
    assert set(means[0]) == set(COLUMNS.split())
    assert [(row["term"], row["target"]) for row in means] == [
        (f"representation{level}", target) for level in ("local", "distributed") for target in ("typical", "population")
    ]
    assert all(row["contrast"] is None and row["pd"] is None for row in means)
    both = run("effects", fitted, "representation", "--contrast", "pairwise", "--by", "depth=0,1", "--json").data
    assert {row["depth"] for row in both} == {0.0, 1.0}
    assert {row["scale"] for row in both} == {"response", "difference", "odds_ratio"}
    assert sum(row["contrast"] == "distributed - local" for row in both) == 4
    depth = run("effects", fitted, "depth", "--by", "representation", "--json").data
    assert {row["representation"] for row in depth} == {"local", "distributed"}
    assert sum(row["contrast"] == "slope" for row in depth) == 4
    link = run("effects", fitted, "representation", "--scale", "link", "--contrast", "pairwise", "--json").data
    assert {row["scale"] for row in link} == {"link"} and {row["target"] for row in link} == {"typical"}
    text = run("effects", fitted, "representation", "--contrast", "pairwise")
    assert (text.code, text.err) == (0, "")
    assert "95 % equal-tailed credible interval" in text.out
    one = run("effects", fitted, "representation", "--by", "representation=local", "--json").data
    assert {row["term"] for row in one} == {"representationlocal"}


def test_talk_goes_to_stderr_and_quiet_silences_it(folder, run):
    new = ("--draws", "20", "--tune", "20", "--chains", "2", "--formula", FORMULA)
    answer = run("fit", folder / "trials.csv", *new, "--out", folder / "talk")
    assert answer.err.startswith(f"fitting {FORMULA} to 480 rows by {'nuts' if nuts.available() else 'pymc'} (auto: ")
    assert f"written to {folder / 'talk'}" in answer.err
    assert "fitting" not in answer.out and "written" not in answer.out
    for quiet in (
        ("simulate", "--study", SMALL, "--out", folder / "quiet" / "trials.csv", "--quiet"),
        ("check", folder / "trials.csv", "--formula", FORMULA, "--quiet"),
    ):
        answer = run(*quiet)
        assert (answer.code, answer.out, answer.err) == (0, "", "")


# Which rows are fitted ---------------------------------------------------------------------------------------------


def test_practice_and_catch_trials_are_set_aside_and_blanks_are_counted(folder, run):
    frame = table().assign(correct=lambda rows: rows["correct"].astype("Int64"))
    frame.loc[:9, "phase"] = "practice"
    frame.loc[10:29, "catch"] = True
    frame.loc[5, "depth"] = None  # practice needs none
    frame.loc[[40, 50, 60], "correct"] = None
    frame.to_csv(folder / "messy.csv", index=False)
    short = ("--formula", FORMULA, "--draws", "20", "--tune", "20", "--chains", "2")
    refused = run("fit", folder / "messy.csv", *short, "--out", folder / "messy")
    assert refused.code == 2
    assert refused.err == (
        "error: Column 'correct' is blank in row 42 (and 2 more rows); fill it, or drop such rows with --missing drop "
        '(in a study file, [exclusions] missing_response = "drop").\n'
    )
    assert not (folder / "messy").exists()
    answer = run("fit", folder / "messy.csv", *short, "--out", folder / "messy", "--missing", "drop", "--json")
    assert "set aside: 30 practice, repeated or catch trials" in answer.err
    assert "dropped: 3 rows that lack a value" in answer.err
    assert (answer.data["fit"]["n_trials"], answer.data["fit"]["n_dropped"]) == (447, 3)
    assert (
        "447 trials, 15 participants; 3 rows dropped" in run("summary", folder / "messy").out
    )  # all of the first one's are set aside


def test_infinite_numbers_are_refused_or_dropped_and_counted(folder, run):
    frame = table()
    frame.loc[[3, 8], "depth"] = np.inf
    frame.loc[[8, 20], "correct"] = None
    frame.loc[30, "depth"] = None
    frame.to_csv(folder / "endless.csv", index=False)
    given = (folder / "endless.csv", "--formula", FORMULA)
    short = ("--draws", "20", "--tune", "20", "--chains", "2", "--out", folder / "endless")
    for command, words in (("check", ()), ("fit", short)):
        refused = run(command, *given, *words)
        assert refused.code == 2
        said = refused.out + refused.err
        assert "error: Column 'correct' is blank in row 10 (and 1 more row); fill it, or drop such rows" in said
        assert "error: Column 'depth' is blank in row 32; fill it, or drop such rows" in said
        assert "error: Column 'depth' is infinite in row 5 (and 1 more row); allowed are finite numbers from 0" in said
    assert not (folder / "endless").exists()
    both = "2 rows that lack a value and 2 rows with an infinite one"
    answer = run("check", *given, "--missing", "drop")
    assert answer.code == 0 and f"476 trials of 16 participants, {both} dropped, 0 errors" in answer.err
    answer = run("fit", *given, *short, "--missing", "drop", "--json")
    assert f"dropped: {both}\n" in answer.err
    assert (answer.data["fit"]["n_trials"], answer.data["fit"]["n_dropped"]) == (476, 4)


def test_columns_are_mapped(folder, run):
    table().rename(columns={"participant": "who", "correct": "hit"}).to_csv(folder / "mapped.csv", index=False)
    maps = ("--map", "participant=who", "--map", "correct = hit")
    assert run("check", folder / "mapped.csv", "--formula", FORMULA, *maps).code == 0
    lost = run("check", folder / "mapped.csv", "--formula", FORMULA, *maps[:2])
    assert lost.code == 2
    assert "'correct' is needed" in lost.out


# What is wrong is said in a sentence -------------------------------------------------------------------------------

F = ("--formula", FORMULA)
BAD = [
    (("fit", "none.csv", *F), "File 'none.csv' does not exist"),
    (("fit", "none.json", *F), "File 'none.json' does not exist."),
    (("fit", "postgresql://me:secret@", *F), "Database 'postgresql://me:***@' "),
    (("fit", "trials.csv", "--formula", "correct ~ (1 | participant"), "("),
    (("fit", "trials.csv", "--formula", "correct ~ exit(depth)"), "exit"),
    (
        ("fit", "trials.csv", "--formula", "correct ~ dept"),
        "'dept' is needed, but there is none (did you mean 'depth'?)",
    ),
    (("fit", "trials.csv", *F, "--family", "bernouli"), "the family 'bernouli' is unknown (did you mean 'bernoulli'?)"),
    (("fit", "trials.csv", *F, "--family", "cumulative", "--engine", "laplace"), "cannot fit the family cumulative"),
    (("fit", "trials.csv", *F, "--link", "cloglog"), "the link 'cloglog' is unknown; allowed are logit, probit"),
    (("fit", "trials.csv", *F, "--guess", "0.5"), "a guess rate is for the family afc; 'bernoulli' has none"),
    (("fit", "trials.csv", *F, "--family", "afc", "--guess", "1"), "the guess rate 1 is outside [0, 1)"),
    (("fit", "trials.csv", *F, "--lapse", "much"), "is no number; give one from 0 to below 1 - guess, or 'estimate'"),
    (("fit", "trials.csv", *F, "--lapse", "1"), "the lapse rate 1 is outside [0, 1)"),
    (("fit", "trials.csv", *F, "--engine", "stan"), "the engine 'stan' is unknown"),
    (("fit", "trials.csv", *F, "--engine", "nuts", "--lapse", "estimate"), "; use --engine pymc"),
    (("fit", "trials.csv", *F, "--budget", "soon"), "--budget 'soon' cannot be read; write a time above 0"),
    (("fit", "trials.csv", *F, "--budget", "1h", "--engine", "pymc"), "--budget is of the engine nuts"),
    (("fit", "trials.csv", *F, "--prior", "b normal(0, 1)"), "the prior 'b normal(0, 1)' cannot be read"),
    (("fit", "trials.csv", *F, "--prior", "sd_pair ~ normal(0, 1)"), "matches no parameter of the model"),
    (("fit", "trials.csv", *F, "--prior", "sd ~ lkj(2)"), "lkj in 'sd ~ lkj(2)' cannot serve sd"),
    (("fit", "trials.csv", *F, "--map", "participant"), "--map 'participant' cannot be read; write new=old"),
    (("fit", "trials.csv", *F, "--map", "=x"), "--map '=x' cannot be read"),
    (("fit", "trials.csv", *F, "--map", "participant=whom"), "whom"),
    (("fit", "trials.csv", *F, "--missing", "impute"), "--missing is 'impute'; allowed are error and drop"),
    (("fit", "trials.csv", *F, "--draws", "0"), "draws is 0; it must be at least 1"),
    (("fit", "trials.csv", *F, "--chains", "-1"), "chains is -1; it must be at least 1"),
    (("fit", "trials.csv", *F, "--seed", "-1"), "seed is -1; it must be at least 0"),
    (("summary", "none"), "none is no fit: it has no provenance.json"),
    (("summary", "."), ". is no fit"),
    (("summary", "trials.csv"), "trials.csv is no fit"),
    (("effects", "none", "representation"), "none is no fit"),
    (
        ("effects", "fit", "representatio"),
        "'representatio' is no predictor of the model (did you mean 'representation'?)",
    ),
    (("effects", "fit", "representation", "--by", "depth"), "--by 'depth' cannot be read; write name=value,value"),
    (("effects", "fit", "representation", "--by", "depth="), "--by 'depth=' cannot be read"),
    (("effects", "fit", "representation", "--by", "=1"), "--by '=1' cannot be read"),
    (("effects", "fit", "representation", "--by", "depth=deep"), "depth is numeric; give numbers"),
    (("effects", "fit", "representation", "--by", "depth=nan"), "cannot be held at nan"),
    (
        ("effects", "fit", "representation", "--by", "dept=1"),
        "'dept' is no predictor of the model (did you mean 'depth'?)",
    ),
    (("effects", "fit", "depth", "--by", "representation=locl"), "'locl' is no level of representation"),
    (("effects", "fit", "representation", "--by", "depth=0", "--by", "depth=1"), "--by names 'depth' twice"),
    (
        ("effects", "fit", "representation", "--scale", "odds"),
        "the scale 'odds' is unknown; allowed are response and link",
    ),
    (("effects", "fit", "representation", "--contrast", "all"), "the contrast 'all' is unknown; allowed is pairwise"),
    (
        ("effects", "fit", "representation", "--by", "representation=local", "--contrast", "pairwise"),
        "a contrast needs two values",
    ),
    (("check", "trials.csv", "--study", "none.toml"), "the study file none.toml cannot be read"),
    (("check", "trials.csv", "--study", str(SMALL), *F), "give --study or --formula, not both"),
    (("check", "trials.csv", "--formula", "~~"), "'~'"),
    (("simulate", "--study", "trials.csv"), "is not valid TOML"),
    (("simulate", "--study", str(ODD)), "has no [simulate] table"),
    (("simulate", "--study", str(SMALL), "--seed", "1.5"), "--seed"),
    (("report", "none.csv", "--study", str(SMALL)), "File 'none.csv' does not exist"),
    (("report", "trials.csv", "--study", "."), "cannot be read: Is a directory"),
    (("report", "trials.csv", "--study", str(SMALL)), "'experiment'"),
    (("frobnicate",), "No such command 'frobnicate'"),
    (("fit", "trials.csv", *F, "--colour", "red"), "No such option: --colour"),
    (("fit",), "Missing argument"),
    (("effects", "fit"), "Missing argument"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(arguments)[:70] for arguments, _ in BAD])
def test_bad_usage_is_one_sentence_and_exit_2(fitted, folder, run, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(folder)
    writes = arguments[0] in ("fit", "simulate", "report") and len(arguments) > 1
    before = contents(folder)
    out = tmp_path / ("new.csv" if arguments[0] == "simulate" else "new")
    answer = run(*arguments, *(["--out", out] if writes else []))
    assert answer.code == 2
    assert answer.out == ""
    assert said in answer.err
    assert "Traceback" not in answer.err and "internal error" not in answer.err
    last = [
        line for line in answer.err.splitlines() if not line.startswith(("Usage", "Try", "  ", "warning", "fitting"))
    ]
    assert all(line == "" or line.lower().startswith(("error: ", "reading ")) for line in last)
    assert contents(folder) == before
    assert not out.exists()


@pytest.mark.parametrize("command", ["fit", "report"])
def test_an_out_that_is_a_file_is_refused_and_kept(folder, run, command):
    how = F if command == "fit" else ("--study", SMALL)
    before = (folder / "trials.csv").read_bytes()
    answer = run(command, folder / "trials.csv", *how, "--out", folder / "trials.csv")
    assert answer.code == 2
    assert "is a file; give a" in answer.err
    assert (folder / "trials.csv").read_bytes() == before


def test_the_place_of_a_fault_in_a_formula_is_marked(folder, run):
    answer = run("fit", folder / "trials.csv", "--formula", "correct ~ depth ) + 1", "--out", folder / "new")
    lines = answer.err.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[1] == "  correct ~ depth ) + 1"
    assert lines[2].index("^") == lines[1].index(")")


# Checking trials ---------------------------------------------------------------------------------------------------


def test_check_says_every_fault_at_once(folder, run):
    frame = table().astype({"correct": object, "catch": object, "depth": object})
    frame.loc[0, "correct"] = "yes"
    frame.loc[1, "catch"] = "maybe"
    frame.loc[2, "participant"] = None
    frame.loc[3, "depth"] = "deep"
    frame.loc[4, "depth"] = 7
    frame.loc[6, "trial"] = 6
    frame.drop(columns="representation").to_csv(folder / "broken.csv", index=False)
    answer = run("check", folder / "broken.csv", "--formula", FORMULA)
    assert answer.code == 2
    for said in (
        "error: Column 'representation' is needed",
        "error: Column 'correct' holds 'yes' in row 2",
        "error: Column 'catch' holds 'maybe' in row 3",
        "error: Column 'participant' is blank in row 4",
        "error: Column 'depth' holds 'deep' in row 5",
        "warning: Column 'depth' is 7 in row 6",
        "error: Column 'trial' repeats in row 8",
    ):
        assert said in answer.out
    lines = answer.out.splitlines()
    assert lines == sorted(lines, key=lambda line: not line.startswith("error"))
    errors = sum(line.startswith("error") for line in lines)
    assert answer.err == f"{folder / 'broken.csv'}: {errors} errors, 1 warning.\n"
    found = run("check", folder / "broken.csv", "--formula", FORMULA, "--json")
    assert found.code == 2
    assert set(found.data) == {"file", "errors", "warnings", "faults", "notes", "sources", "left_out"}
    assert (found.data["errors"], found.data["warnings"]) == (errors, 1)
    assert [f"{fault['severity']}: {fault['message']}" for fault in found.data["faults"]] == lines
    assert {(fault["column"], fault["row"]) for fault in found.data["faults"]} >= {("correct", 2), ("depth", 5)}


def test_check_of_good_trials_is_silent_on_stdout(folder, run):
    answer = run("check", folder / "trials.csv", "--formula", FORMULA)
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == f"{folder / 'trials.csv'}: 480 trials of 16 participants, 0 errors, 0 warnings.\n"


def test_warnings_leave_zero(folder, run):
    table().assign(depth=lambda rows: rows["depth"] * 3).to_csv(folder / "deep.csv", index=False)
    answer = run("check", folder / "deep.csv", "--formula", FORMULA)
    assert answer.code == 0
    assert answer.out.startswith("warning: Column 'depth' is ")
    assert "0 errors, 1 warning." in answer.err


def test_check_knows_the_study(run):
    trials = ROOT / "data" / "colin2024_simulated" / "trials.csv"
    answer = run("check", trials, "--study", ROOT / "data" / "studies" / "colin2024.toml", "--json")
    assert answer.code == 0
    assert answer.data["errors"] == 0


# Simulating and reporting ------------------------------------------------------------------------------------------


def test_simulate_writes_trials_that_the_study_reads(tmp_path, run):
    answer = run("simulate", "--study", SMALL, "--out", tmp_path / "a" / "trials.csv")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == (
        f"768 simulated trials written to {tmp_path / 'a' / 'trials.csv'}, and what is true of them to "
        f"{tmp_path / 'a' / 'README.md'}\n"
    )
    assert run("check", tmp_path / "a" / "trials.csv", "--study", SMALL).code == 0
    run("simulate", "--study", SMALL, "--out", tmp_path / "b" / "trials.csv", "--seed", "3")
    assert contents(tmp_path / "a")["trials.csv"] == contents(tmp_path / "b")["trials.csv"]  # the file's own seed is 3


def test_a_report_that_may_not_be_read_is_exit_3(tmp_path, tmp_path_factory, run):
    made = odd_report(tmp_path_factory)
    shutil.copytree(made.out, tmp_path / "report")
    answer = run("report", made.trials, "--study", ODD, "--out", tmp_path / "report")
    assert (answer.code, answer.out) == (3, "")
    assert "NOT CONVERGED: " in answer.err
    assert answer.err.splitlines()[-1].startswith(f"{tmp_path / 'report' / 'report.html'} and ")
    assert "psychostats report" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    quiet = run("report", made.trials, "--study", ODD, "--out", tmp_path / "report", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (3, "", "")


# The process -------------------------------------------------------------------------------------------------------


def test_version_and_help(run):
    assert run("--version").out == f"psychostats {__version__}\n"
    shown = run("--help")
    assert shown.code == 0
    for command in ("check", "fit", "summary", "effects", "simulate", "report"):
        assert command in shown.out
        assert run(command, "--help").code == 0


def process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "psychostats.cli", *map(str, arguments)], cwd=ROOT, capture_output=True, **options
    )


def test_the_exit_code_leaves_the_process(tmp_path):
    answer = process("summary", tmp_path, encoding="utf-8")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.count("\n") == 1


def test_a_reader_that_stops_early_is_no_error(fitted):
    """As in ``psychostats summary DIR --random --json | head -1``: the pipe is closed before anything is written."""
    command = [sys.executable, "-m", "psychostats.cli", "summary", str(fitted), "--random", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as running:
        running.stdout.close()
        said = running.stderr.read()
    assert (running.returncode, said) == (0, b"")


def test_an_interruption_leaves_nothing_and_says_so(folder, tmp_path):
    command = [sys.executable, "-m", "psychostats.cli", "fit", str(folder / "trials.csv"), "--formula", FORMULA]
    # In warm-up, of which no engine keeps anything; what they keep of draws: test_interrupted_fits, test_sampler.
    command += ["--out", str(tmp_path / "fit"), "--tune", "1000000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", cwd=ROOT
    ) as running:
        assert running.stderr.readline().startswith("fitting ")
        time.sleep(2)
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()
        out = running.stdout.read()
    assert (running.returncode, out) == (130, "")
    assert said.splitlines()[-1] == "interrupted; nothing half-written is left."
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


FAILING = """
import sys
from psychostats import cli

@cli.app.command()
def fail():
    {0}

sys.argv = ["psychostats", "fail"]
cli.main()
"""


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (
            "raise ZeroDivisionError('no')",
            1,
            "internal error: ZeroDivisionError: no (set PSYCHOSTATS_DEBUG=1 to see where",
        ),
        ("open('/')", 2, "error: /: Is a directory."),
    ],
)
def test_a_failure_of_ours_is_exit_1_without_a_traceback(failure, code, said):
    command = [sys.executable, "-c", FAILING.format(failure)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert answer.returncode == code
    assert answer.stderr.startswith(said)
    assert answer.stderr.count("\n") == 1


SWALLOWED = "import ctypes, signal, time; ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(2))(); time.sleep(60)"


@pytest.mark.parametrize("where", [SWALLOWED, "exec('raise KeyboardInterrupt')", "import os; os.kill(os.getpid(), 15)"])
def test_an_interruption_is_heard_wherever_it_falls(where):
    """In a callback of compiled code Python drops it; after one in an exec Python would end by the signal."""
    answer = subprocess.run(
        [sys.executable, "-c", FAILING.format(where)], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=50
    )
    assert (answer.returncode, answer.stderr) == (130, "\ninterrupted; nothing half-written is left.\n")


def test_several_values_may_follow_one_option(folder, run):
    table().rename(columns={"participant": "who", "correct": "hit"}).to_csv(folder / "renamed.csv", index=False)
    maps = ("--map", "participant=who", "correct=hit")
    assert run("check", folder / "renamed.csv", *maps, "--formula", FORMULA).code == 0
    assert run("check", *maps, "--formula", FORMULA, folder / "renamed.csv").code == 0


def test_rows_are_filtered_and_pooled_experiments_are_named(folder, run):
    frame = table().assign(experiment=lambda rows: np.where(rows["participant"] < "p08", "one", "two"))
    frame.to_csv(folder / "two.csv", index=False)
    short = ("--formula", FORMULA, "--draws", "20", "--tune", "20", "--chains", "2", "--json")
    pooled = run("fit", folder / "two.csv", *short, "--out", folder / "pooled")
    assert "warning: the trials of several experiments (one, two) are pooled; --filter experiment=NAME" in pooled.err
    one = run("fit", folder / "two.csv", *short, "--out", folder / "one", "--filter", "experiment=one")
    assert "pooled" not in one.err and one.data["fit"]["n_trials"] == 240
    absent = run("check", folder / "two.csv", "--filter", "experiment=three")
    assert absent.code == 2 and "which no row holds" in absent.out
    assert run("check", folder / "two.csv", "--filter", "experiment").code == 2


def test_check_may_leave_out_what_is_missing(folder, run):
    table().assign(correct=lambda rows: rows["correct"].where(rows.index != 3)).to_csv(folder / "gap.csv", index=False)
    assert run("check", folder / "gap.csv", "--formula", FORMULA).code == 2
    assert run("check", folder / "gap.csv", "--formula", FORMULA, "--missing", "drop").code == 0
    assert run("check", folder / "gap.csv", "--missing", "perhaps").code == 2


def test_a_second_call_does_not_say_that_it_fits(folder, fitted, run):
    answer = run("fit", folder / "trials.csv", "--formula", FORMULA, "--out", folder / "talk2", "--draws", "20")
    again = run("fit", folder / "trials.csv", "--formula", FORMULA, "--out", folder / "talk2", "--draws", "20")
    assert "fitting" in answer.err and "fitting" not in again.err
    assert "already holds this fit; nothing was computed" in again.err


def test_priors_that_were_changed_stand_in_the_summary(folder, run):
    short = ("--draws", "20", "--tune", "20", "--chains", "2", "--formula", FORMULA)
    answer = run("fit", folder / "trials.csv", *short, "--out", folder / "prior", "--prior", "Intercept ~ cauchy(0, 1)")
    assert "Priors:  b_Intercept ~ cauchy(0, 1), the others default" in answer.out


def test_a_report_takes_a_seed_and_says_where_it_lies(tmp_path_factory, tmp_path, run):
    made = odd_report(tmp_path_factory)
    shutil.copytree(made.out, tmp_path / "report")
    same = run("report", made.trials, "--study", made.study, "--out", tmp_path / "report", "--seed", "1", "--json")
    assert "nothing changed" in same.err and same.data["converged"] is False and same.code == 3
    assert same.data["html"] == str(tmp_path / "report" / "report.html")
    other = run("report", made.trials, "--study", made.study, "--out", tmp_path / "report", "--seed", "2", "--quiet")
    assert other.out == "" and "seed 2" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_a_simulation_says_what_it_wrote(tmp_path, run):
    answer = run("simulate", "--study", SMALL, "--out", tmp_path / "trials.csv", "--json", "--quiet")
    assert answer.data["rows"] == len(pd.read_csv(tmp_path / "trials.csv")) and answer.data["simulated"] is True
