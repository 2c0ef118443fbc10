"""The analysis of a study: what is refused before any fit, and tables that pandas gives as well."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from studies import known_fit, odd_report, odd_trials, small_report, study_of

from psychostats import engines, mixed
from psychostats.analysis import analyse, file_name, shared_features, with_feature_effects
from psychostats.columns import analysed
from psychostats.errors import InputError
from psychostats.opening import notices
from psychostats.results import ALL, summarise_fit
from psychostats.sampling import Settings
from psychostats.settings import DEFAULT_FORMULA


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_report(tmp_path_factory)


@pytest.fixture
def refuse(tmp_path):
    """Give a function that analyses a frame as a study says, and returns the refusal; nothing may be fitted."""

    def run(frame, text):
        frame.to_csv(tmp_path / "trials.csv", index=False)
        study = study_of(tmp_path, text)
        with pytest.raises(InputError) as caught:
            analyse(study, tmp_path / "trials.csv", tmp_path / "fits")
        assert not (tmp_path / "fits").exists()
        return str(caught.value)

    return run


PEOPLE = "[columns]\nparticipant = 'prolific'\n"
MODEL = "[[models]]\nname = 'm'\nformula = 'correct ~ {0} + (1 | participant)'\n[effects]\nfactor = '{0}'\n"


def test_effects_that_cannot_be_taken_are_refused_before_any_fit(refuse):
    frame = odd_trials().assign(code=lambda table: table["condition"].factorize()[0], layer="conv1")
    said = refuse(frame, PEOPLE + MODEL.format("code"))
    assert said == "[effects] factor 'code' holds numbers; name a column of levels, or give its levels in [levels]."
    text = "[[models]]\nname = 'm'\nformula = 'correct ~ condition * worker2'\n[effects]\nfactor = 'condition'\n"
    frame["worker2"] = np.where(np.arange(len(frame)) % 2, "x", "y")
    said = refuse(frame, PEOPLE + text + "moderator = 'worker2'\n")
    assert said == "[effects] moderator 'worker2' holds levels; name a column of numbers."
    assert "factor 'layer' has one level only ('conv1')" in refuse(frame, PEOPLE + MODEL.format("layer"))


def test_an_experiment_without_a_trial_left_is_refused_with_the_step_that_emptied_it(refuse):
    frame = odd_trials().assign(experiment=lambda table: np.where(table.index < 126, "one", "two"), catch=False, rt=1.0)
    frame.loc[126:, "rt"] = 99.0
    said = refuse(frame, PEOPLE + "[exclusions]\nrt_max = 60.0\n" + MODEL.format("condition"))
    assert (
        said == "no trial of experiment 'two' is left to analyse; the step 'trials slower than 60 s' removed the last."
    )
    frame = frame.drop(columns="experiment").assign(rt=99.0)
    said = refuse(frame, PEOPLE + "[exclusions]\nrt_max = 60.0\n" + MODEL.format("condition"))
    assert said.startswith("no trial is left to analyse; the step")


def test_experiments_whose_files_would_share_a_name_are_refused(refuse):
    frame = odd_trials().assign(experiment=lambda table: np.where(table.index < 126, "a b", "A/b"))
    said = refuse(frame, PEOPLE + MODEL.format("condition"))
    assert said == ("the experiments A/b, a b cannot be told apart by their files' names; rename them in [levels].")


def test_faults_of_the_trials_are_all_said(refuse):
    frame = odd_trials()
    frame.loc[3, "correct"] = 7
    frame.loc[5, "prolific"] = None
    said = refuse(frame, PEOPLE + MODEL.format("conditon"))
    assert len(said.splitlines()) == 3


@pytest.mark.parametrize(
    ("name", "file"), [("natural", "natural"), ("a/b", "a-b"), ("../x", "---x"), ("été_2", "été_2"), ("v1.0 ", "v1-0-")]
)
def test_a_file_name_stays_in_its_folder(name, file):
    assert file_name(name) == file


def test_raw_accuracies_are_pandas(small):
    analysis = small.analysis
    raw = pd.read_csv(small.trials)
    main = raw[(raw["phase"] == "main") & ~raw["catch"] & raw["correct"].notna()]
    counts = main.groupby(["experiment", "representation"])["correct"].agg(["size", "sum", "mean"])
    assert len(analysis.accuracy) == 4
    for row in analysis.accuracy.to_dict("records"):
        expected = counts.loc[(row["experiment"], row["representation"])]
        assert (row["n"], row["correct"]) == (expected["size"], expected["sum"])
        assert row["accuracy"] == pytest.approx(expected["mean"])
    catch = raw[raw["catch"]].groupby("experiment")["correct"].agg(["size", "mean"])
    assert analysis.catch_accuracy.set_index("experiment")["n"].to_dict() == catch["size"].to_dict()
    assert analysis.catch_accuracy.set_index("experiment")["accuracy"].to_dict() == pytest.approx(
        catch["mean"].to_dict()
    )
    each = main.groupby(["experiment", "representation", "participant"])["correct"].mean()
    for row in analysis.summary.to_dict("records"):
        shares = each.loc[(row["experiment"], row["representation"])]
        assert row["participants"] == len(shares)
        assert row["estimate"] == pytest.approx(shares.mean())
        half = stats.norm.ppf(0.975) * shares.std() / np.sqrt(len(shares))
        assert (row["conf_low"], row["conf_high"]) == pytest.approx((shares.mean() - half, shares.mean() + half))
    bins = analysis.bins.groupby("experiment", observed=True)[["n", "correct"]].sum()
    assert bins["n"].to_dict() == main.groupby("experiment").size().to_dict()
    assert sorted(analysis.bins["depth"].unique().round(4)) == [0.0, 0.3333, 0.6667, 1.0]


def test_results_come_models_first_in_the_order_of_the_study(small):
    analysis = small.analysis
    assert [(r.model.name, r.experiment) for r in analysis.results] == [
        ("main", "first"),
        ("main", "second"),
        ("plain", "first"),
        ("plain", "second"),
    ]
    assert analysis.experiments == ["first", "second"]
    assert [r.model.name for r in analysis.main] == ["main", "main"]
    assert analysis.moderator == "depth"
    assert not analysis.converged
    assert all(r.fit.reused for r in analysis.results)


def test_the_headline_holds_the_moderator_at_its_mean(small):
    result = small.analysis.main[0]
    headline = result.headline
    assert headline["depth"].isna().all()
    assert sorted(headline["scale"].unique()) == ["difference", "link", "odds_ratio"]
    at = result.contrasts[result.contrasts["depth"].notna()]
    assert sorted(at["depth"].unique()) == [0.0, 0.5, 1.0]

    def of(table, **wanted):
        rows = table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])]
        return rows["estimate"].item()

    population = {"target": "population", "scale": "difference"}
    change = of(result.interaction, **population)
    assert change == pytest.approx(of(at, depth=1.0, **population) - of(at, depth=0.0, **population))
    means = result.means[(result.means["target"] == "population") & result.means["depth"].isna()]
    low, high = (means.loc[means["representation"] == level, "estimate"].item() for level in ("local", "distributed"))
    assert of(headline, **population) == pytest.approx(high - low)


def test_predictive_checks_cover_every_trial(small):
    for result in small.analysis.main:
        for table in (result.cells, result.participants):
            assert table["n"].sum() == len(result.fit.data)
        assert len(result.cells) == 2 * 4
        assert len(result.participants) == 24


def test_a_study_without_experiments_or_moderator(tmp_path_factory):
    analysis = odd_report(tmp_path_factory).analysis
    (result,) = analysis.results
    assert (result.experiment, analysis.experiments, analysis.moderator) == (ALL, [ALL], None)
    assert result.headline is result.contrasts
    assert result.slopes.empty and result.interaction.empty and result.curve.empty and analysis.bins.empty
    differences = result.headline[(result.headline["scale"] == "difference") & (result.headline["target"] == "typical")]
    assert len(differences) == 3
    assert (result.contrasts["interval"] == "hdi").all() and (result.contrasts["conf_level"] == 0.9).all()
    assert len(analysis.catch_accuracy) == 0
    assert len(result.cells) == 3


def test_a_level_that_one_person_saw_has_no_interval_over_participants(tmp_path):
    frame = odd_trials().assign(prolific=lambda table: "only " + table["condition"].str[:2])
    frame.to_csv(tmp_path / "trials.csv", index=False)
    model = MODEL.format("condition").replace("name = 'm'", "name = 'm'\ndraws = 20\ntune = 20")
    study = study_of(tmp_path, PEOPLE + model)
    summary = analyse(study, tmp_path / "trials.csv", tmp_path / "fits", progress=False).summary
    assert summary[["conf_low", "conf_high"]].isna().all(axis=None)


def test_tables_of_a_known_fit_are_its_closed_form(tmp_path):
    rows = pd.DataFrame(
        {
            "representation": pd.Categorical(["local", "distributed"] * 60, ["local", "distributed"]),
            "depth": np.repeat([0.0, 0.5, 1.0], 40),
            "participant": np.repeat(["p", "q"], 60),
            "layer": pd.Series([None] * 60 + ["x"] * 60, dtype=object),
            "correct": [0, 1] * 60,
        }
    )
    b = {"Intercept": 0.2, "representationdistributed": 0.6, "depth": 0.4, "representationdistributed:depth": -1.0}
    study = study_of(tmp_path, "[[models]]\nname = 'm'\n")
    fit = known_fit("correct ~ representation * depth", rows, b, family="afc")
    result = summarise_fit(study, "x", study.models[0], fit, rows)

    def p(eta):
        return 0.5 + 0.5 / (1 + np.exp(-eta))

    means = result.means[(result.means["target"] == "typical")]
    assert means["representation"].astype(str).tolist()[:2] == ["local", "distributed"]
    assert means["estimate"].tolist()[:2] == pytest.approx([p(0.4), p(0.2 + 0.6 + 0.2 - 0.5)])
    difference = result.headline.query("scale == 'difference' and target == 'typical'")["estimate"].item()
    assert difference == pytest.approx(p(0.5) - p(0.4))
    change = result.interaction.query("scale == 'difference' and target == 'typical'")["estimate"].item()
    assert change == pytest.approx((p(0.2) - p(0.6)) - (p(0.8) - p(0.2)))
    slope = result.slopes.query("scale == 'difference' and target == 'typical'").set_index("representation")["estimate"]
    assert slope.to_dict() == pytest.approx({"local": p(0.6) - p(0.2), "distributed": p(0.2) - p(0.8)})
    assert "depth" in result.cells  # layers are blank in places, so depth splits the check
    assert len(result.cells) == 6


def test_practice_repeats_and_catch_trials_are_not_analysed(small):
    trials = small.analysis.study.read(small.trials)
    assert len(small.analysis.excluded.kept) == int((analysed(trials) & trials["correct"].notna()).sum())


def test_a_design_too_large_for_nuts_gets_the_warm_up_of_pymc(tmp_path, monkeypatch):
    """The engine is known when the trials are coded, not when the study file is read."""
    found = []

    class Begun(Exception):
        pass

    def begin(engine, how, *_, **__):
        found.append((engine, how))
        raise Begun

    monkeypatch.setattr(engines, "run", begin)
    monkeypatch.setattr(mixed, "_LARGEST", 5)
    odd_trials().to_csv(tmp_path / "trials.csv", index=False)
    study = study_of(tmp_path, PEOPLE + MODEL.format("condition"))
    with pytest.raises(Begun):
        analyse(study, tmp_path / "trials.csv", tmp_path / "fits", progress=False)
    assert found == [("pymc", Settings())]


# What is true, what does not fit, what is shared ---------------------------------------------------------------------


def test_the_truth_of_a_simulated_study_is_that_of_its_true_model(small):
    """Against new people and new pairs, drawn one by one from the true values."""
    result = small.analysis.main[0]
    truth = small.analysis.study.plan().truth["first"]
    rng = np.random.default_rng(1)
    u, s, v, t = (
        truth[f"sd_{group}__{term}"] * rng.standard_normal(400_000)
        for group in ("participant", "pair")
        for term in ("Intercept", "representationdistributed")
    )

    def accuracy(distributed, depth):
        b = [truth[f"b_{name}"] for name in ("Intercept", "representationdistributed", "depth")]
        eta = b[0] + b[1] * distributed + (b[2] + truth["b_representationdistributed:depth"] * distributed) * depth
        return (0.5 + 0.5 / (1 + np.exp(-(eta + u + v + distributed * (s + t))))).mean()

    depth = result.fit.data["depth"].mean()
    rows = result.truth.query("target == 'population' and scale == 'difference'")["estimate"].tolist()
    change = accuracy(1, 1.0) - accuracy(0, 1.0) - accuracy(1, 0.0) + accuracy(0, 0.0)
    assert rows == pytest.approx([accuracy(1, depth) - accuracy(0, depth), change], abs=0.001)
    plain = next(result for result in small.analysis.results if result.model.name == "plain")
    assert plain.truth.empty  # what is true of another model is not known


def test_a_direction_that_serves_two_pairs_gets_its_own_effects(tmp_path):
    kept = pd.DataFrame({"pair": ["p1", "p2", "p3"], "feature": ["f", "f", "g"]})
    default = with_feature_effects(study_of(tmp_path, ""), kept)
    assert [model.formula for model in default.models] == [f"{DEFAULT_FORMULA} + (1 | feature)"] * 2
    text = "[[models]]\nname = 'm'\nformula = 'correct ~ representation'\n[effects]\nmoderator = ''\n"
    written = study_of(tmp_path, text)
    assert with_feature_effects(written, kept).models[0].formula == "correct ~ representation"
    apart = kept.assign(feature=["f", "h", "g"])
    assert with_feature_effects(study_of(tmp_path, ""), apart).models[0].formula == DEFAULT_FORMULA
    # The same feature in two experiments is no sharing.
    twice = pd.DataFrame({"experiment": ["a", "b"], "pair": ["p1", "p2"], "feature": ["f", "f"]})
    assert shared_features(twice) == []


def test_a_model_that_misses_its_data_is_said_to_before_all_else(tmp_path):
    """Answers at one level are all wrong and few are right at the other: a model that guesses at 0.5 cannot follow."""
    frame = odd_trials().assign(condition=lambda table: np.where(table.index % 2, "b", "a"))
    frame["correct"] = np.where(frame["condition"] == "b", 0, frame.index % 10 == 2)
    frame.to_csv(tmp_path / "trials.csv", index=False)
    settings = "draws = 150\ntune = 150\nchains = 2"
    study = study_of(tmp_path, PEOPLE + MODEL.format("condition").replace("name = 'm'", f"name = 'm'\n{settings}"))
    analysis = analyse(study, tmp_path / "trials.csv", tmp_path / "fits", progress=False)
    assert analysis.main[0].predictive["misfit"].any()
    boxes = {box.title: box for box in notices(analysis)}
    box = boxes["The model does not fit these trials"]
    said = "".join(run.text for item in box.blocks[0].items for run in item)
    assert "lie outside their posterior predictive interval" in said
    assert "accuracy at condition b is 0.000, below the guess rate 0.5" in said
    assert "The check of the trials warns" in boxes  # of accuracy at or below chance


def test_no_misfit_is_seen_where_there_is_none(small):
    assert not any(result.predictive["misfit"].any() for result in small.analysis.main)
    assert small.analysis.main[0].predictive["what"].tolist() == [
        "representation and layer",
        "participant",
        "pair",
        "feature",
    ]
