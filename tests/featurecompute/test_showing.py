"""The second half of the job on a real network: what its files say of each other; the same bytes however it went."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

import tiny  # noqa: E402
from PIL import Image  # noqa: E402
from test_pipeline import contents, maps_of  # noqa: E402

from featurecompute import training  # noqa: E402
from featurecompute.errors import StudyError  # noqa: E402
from featurecompute.files import read_arrays, write_arrays  # noqa: E402
from featurecompute.pipeline import compute_study  # noqa: E402
from featurecompute.scenes import generate  # noqa: E402
from featurecompute.study import NetworkTable, read_study  # noqa: E402
from featurecompute.views import Views, crop_id  # noqa: E402

# The network is random: some of its units cannot be synthesised.
TABLES = """
[visualize]
images = 2
steps = 6
[stimuli]
references_max = 3
references_min = 2
references_synthetic = 1
batches = 2
catch = 3
practice = 3
faulty = "skip"
{stimuli}
[design]
participants = {{ natural = 5, mixed = 4, elsewhere = 3 }}
main = 4
catch = 2
practice = 2
whatever = "is the statistics half's"
"""


def write(folder, stimuli="", count=60, **tables):
    study = tiny.write_study(folder, count=count, **tables)
    quick = study.read_text().replace("images = 20", "images = 0")  # contributions are tested elsewhere
    study.write_text(quick + TABLES.format(stimuli=stimuli))
    return read_study(study)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shown")


@pytest.fixture(scope="module")
def made(folder):
    return compute_study(write(folder), folder / "run")


def main_of(run):
    rows = run.table("stimuli")
    return rows[(rows["phase"] == "main") & ~rows["catch"]]


def images_in(rows):
    lists = [image for name in ("references_max", "references_min") for row in rows[name] for image in row]
    return {*rows["query_target"], *rows["query_distractor"], *lists}


def test_activations_are_those_of_hooks_on_the_whole_network(folder, made):
    values, ids = tiny.read_pixels(folder)
    maps, _ = maps_of(values)
    place = {image: number for number, image in enumerate(ids)}
    features = made.table("features").set_index("feature")
    rows = main_of(made)
    local = rows[rows["feature"].map(features["representation"]) == "local"]
    assert len(local) > 20
    for row in local.to_dict(orient="records"):
        feature = features.loc[row["feature"]]
        pooled = maps[feature["layer"]][:, feature["index"]].mean((1, 2)).numpy()
        assert row["activation_target"] == pytest.approx(pooled[place[row["query_target"]]], abs=1e-5)
        assert row["activation_distractor"] == pytest.approx(pooled[place[row["query_distractor"]]], abs=1e-5)
        if row["experiment"] == "natural":
            used = [place[image] for image in [row["query_target"], *row["references_max"]]]
            assert set(np.argsort(np.argsort(-pooled))[used]) <= set(range(2 * 4))
        if row["experiment"] == "semantic":
            assert row["class_target"] == row["class_distractor"] == row["query_target"].split("/")[0]


def test_every_image_that_is_shown_has_its_picture_its_row_and_its_pixels(folder, made):
    shown = images_in(made.table("stimuli"))
    pictures, images = made.table("pictures").set_index("image"), made.table("images").set_index("image")
    assert set(pictures.index) == shown <= set(images.index)
    pixels = read_arrays(made.path / "synthesised.safetensors")["pixels"]
    synthesised = dict(zip(made.table("synthesised")["image"], pixels, strict=True))
    for image in shown:
        there = np.asarray(Image.open(made.path / pictures.loc[image, "file"]))
        wanted = synthesised[image] if image in synthesised else np.asarray(Image.open(folder / "images" / image))
        assert (there == wanted).all()
    new = images[images["kind"] == "synthesised"]
    assert set(new.index) == shown & set(synthesised) and len(new)
    assert (new["path"] == pictures.loc[new.index, "file"]).all()
    assert new["entropy"].between(0, 8).all() and new["label"].isna().all()


def test_the_complexity_of_a_stimulus_is_the_mean_over_its_references(made):
    images = made.table("images").set_index("image")
    for row in made.table("stimuli").to_dict(orient="records"):
        references = [*row["references_max"], *row["references_min"]]
        for name in ("entropy", "edge_density", "compressed_bytes"):
            assert row[name] == pytest.approx(images.loc[references, name].mean())


def test_synthesised_images_say_how_they_compare_with_the_images_of_the_set(folder, made):
    rows = made.table("synthesised")
    features = made.table("features").set_index("feature")
    assert set(rows["end"]) == {"max"} and (rows.groupby("feature").size() == 2).all()
    top = made.table("extremes").query("side == 'top' and rank == 1").set_index("feature")["activation"]
    np.testing.assert_allclose(rows["natural"], top.loc[rows["feature"]], rtol=1e-5)
    local = rows[~rows["failed"] & (rows["feature"].map(features["representation"]) == "local")]
    pixels = read_arrays(made.path / "synthesised.safetensors")["pixels"]
    values = (torch.from_numpy(pixels[local.index]).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    maps, _ = maps_of(values)
    for number, row in enumerate(local.to_dict(orient="records")):
        feature = features.loc[row["feature"]]
        found = float(maps[feature["layer"]][number, feature["index"]].mean())
        assert row["activation"] == pytest.approx(found, abs=1e-5)


def test_pairs_without_synthesised_images_are_left_out_of_mixed_alone(made):
    rows = made.table("synthesised")
    failed = set(rows.groupby("feature")["failed"].any().loc[lambda any_: any_].index)
    assert failed, "every image succeeded, so nothing was tested"
    pairs = made.table("pairs")
    lost = {
        row["pair"]
        for row in pairs.to_dict(orient="records")
        if {row["local_feature"], row["distributed_feature"]} & failed
    }
    there = main_of(made).groupby("experiment")["pair"].agg(set)
    assert there["natural"] == set(pairs["pair"])
    assert there["mixed"] == set(pairs["pair"]) - lost
    assert sum("is left out" in warning for warning in made.record["warnings"]) == len(lost)


def test_trial_lists_show_stimuli_in_their_versions(made):
    lists, stimuli = made.table("trial_lists"), made.table("stimuli").set_index("stimulus")
    features = made.table("features").set_index("feature")
    assert lists.groupby("experiment")["participant"].nunique().to_dict() == {"natural": 5, "mixed": 4}
    assert (stimuli.loc[lists["stimulus"], "version"].to_numpy() == lists["version"].to_numpy()).all()
    main = lists[lists["phase"] == "main"]
    for name in ("representation", "layer", "depth"):
        assert (features.loc[main["feature"], name].to_numpy() == main[name].to_numpy()).all()
    assert made.table("balance")["experiment"].unique().tolist() == ["natural", "mixed"]


def test_observers_answer_the_trial_lists(made):
    lists = made.table("trial_lists")
    for space in ("pixel", "low_level", "embedding"):
        trials = pd.read_parquet(made.path / "observers" / f"{space}.parquet")
        assert trials["simulated"].all()
        assert (trials["participant"] == f"{space}-" + lists["participant"]).all()
        assert (trials["correct"] == (trials["response"] == lists["target_side"])).all()
    observed = made.table("observed")
    assert observed.groupby("observer")["stimulus"].nunique().eq(len(made.table("stimuli"))).all()
    catch = observed[observed["catch"]]
    assert catch["probability"].mean() > observed[~observed["catch"]]["probability"].mean()  # their answer is in sight


SCENES = """
[network]
weights = "net.safetensors"
layers = ["block2", "block5"]
[images]
count = 150
[dictionary]
rank = 6
samples = 800
stability_seeds = 0
[features]
neurons = 4
top = 12
[contributions]
images = 0
"""


def test_where_elements_are_known_one_observer_looks_for_one_of_them(tmp_path, made):
    assert set(made.table("observed")["observer"]) == {"pixel", "low_level", "embedding"}
    network = training.build_network(NetworkTable())
    write_arrays(tmp_path / "net.safetensors", {name: value.numpy() for name, value in network.state_dict().items()})
    study = tmp_path / "study.toml"
    study.write_text(SCENES + TABLES.format(stimuli='experiments = ["natural", "mixed"]'))
    run = compute_study(read_study(study), tmp_path / "run")
    trials = pd.read_parquet(run.path / "observers" / "elements.parquet")
    assert len(trials) == len(run.table("trial_lists")) and (trials["observer"] == "elements").all()
    observed = run.table("observed").query("observer == 'elements'").set_index("stimulus")["d"]
    presence = generate(150, 1).truth.presence.astype(float)
    number = {image: place for place, image in enumerate(run.table("images").query("kind == 'generated'")["image"])}
    rows = run.table("stimuli").query("experiment == 'natural'").to_dict(orient="records")
    assert len(rows) == len({row["stimulus"] for row in rows}) > 10
    for row in rows:
        most, least = (presence[[number[i] for i in row[f"references_{end}"]]].mean(0) for end in ("max", "min"))
        best = np.flatnonzero(np.isclose(most - least, (most - least).max()))
        target, distractor = (presence[number[row[f"query_{name}"]]][best] for name in ("target", "distractor"))
        assert observed[row["stimulus"]] == pytest.approx(np.mean((most - least)[best] * (target - distractor)))
    cut = study.read_text().replace("[stimuli]", '[stimuli]\nview = "crop"').replace('"natural", "mixed"', '"natural"')
    study.write_text(cut)
    cropped = compute_study(read_study(study), tmp_path / "cropped")
    assert "elements" not in set(cropped.table("observed")["observer"])  # what a crop shows of them is not known


def test_the_same_study_gives_the_same_bytes_wherever_it_stopped(folder, made):
    study, out, stopped = read_study(folder / "study.toml"), folder / "stopped", set()

    def stop(stage, done, every):
        if stage not in stopped:
            stopped.add(stage)
            raise KeyboardInterrupt

    for _ in range(20):
        try:
            compute_study(study, out, resume=True, progress=stop)
            break
        except KeyboardInterrupt:
            continue
    assert {"synthesised", "images"} <= stopped
    assert contents(out) == contents(made.path)


def test_a_bf16_scan_shows_what_an_fp32_scan_shows(folder, made):
    text = (folder / "study.toml").read_text().replace("[features]", '[features]\nscan = "bf16"')
    (folder / "fast.toml").write_text(text.replace('"mixed"', '"natural"'))
    fast = compute_study(read_study(folder / "fast.toml"), folder / "fast")
    features = made.table("features").set_index("feature")
    both = [main_of(run).query("experiment == 'natural'").set_index("stimulus") for run in (made, fast)]
    local = [name for name in both[0].index if features.loc[both[0].loc[name, "feature"], "representation"] == "local"]
    for name in ("query_target", "references_max", "activation_target"):
        assert both[0].loc[local, name].to_list() == both[1].loc[local, name].to_list()


def test_crops_are_the_receptive_fields_of_the_maximum(tmp_path):
    run = compute_study(write(tmp_path, 'view = "crop"\nexperiments = ["natural"]'), tmp_path / "run")
    values, ids = tiny.read_pixels(tmp_path)
    maps, _ = maps_of(values)
    features, pictures = run.table("features").set_index("feature"), run.table("pictures").set_index("image")
    rows = main_of(run)
    first = rows[rows["feature"].map(features["representation"] + features["layer"]) == "localfirst"]
    assert len(first)
    for row in first.to_dict(orient="records"):
        image, _, box = row["query_target"].rpartition("@")
        found = maps["first"][ids.index(image), features.loc[row["feature"], "index"]]
        down, across = divmod(int(found.argmax()), found.shape[1])
        # A 3 x 3 convolution of stride 2 and padding 1 sees the pixels from 2 i - 1 to 2 i + 1.
        top, left = max(2 * down - 1, 0), max(2 * across - 1, 0)
        assert box == f"{top},{left},{2 * down + 2},{2 * across + 2}"
        shown = np.asarray(Image.open(run.path / pictures.loc[row["query_target"], "file"]))
        assert shown.shape == (24, 24, 3) and len(np.unique(shown.reshape(-1, 3), axis=0)) <= 9
    silent = rows[rows["activation_distractor"] == 0]["query_distractor"].str.rpartition("@")[2]
    assert len(silent) > 3 and silent.nunique() > 3  # of a silent feature any part, not always the first
    kinds = run.table("images").set_index("image")["kind"]
    assert set(kinds.loc[list(images_in(run.table("stimuli")))]) == {"crop"}
    assert "class" in str(rows["class_target"].iloc[0])


def test_a_study_whose_stimuli_cannot_be_made_is_refused_before_the_work(tmp_path):
    for stimuli, words in (
        ("references_per_class = 1\nexperiments = ['semantic']\nreferences_max = 6", "of 6 classes or more"),
        ('batches = 20\nexperiments = ["natural"]', "needs 140 images for 20 batches"),
        ("references_synthetic_min = 1", "nothing drives a unit of first below zero"),
        ("references_synthetic = 4", "references_synthetic is 4, but there are 3 references"),
        ("batches = 3", r"shows 1 synthesised images in each of 3 batches, but \[visualize\] images is 2"),
        ("catch = 1", r"\[design\] catch is 2, but experiment 'natural' has 1 catch stimuli"),
    ):
        text = TABLES.replace("batches = 2", "") if "batches" in stimuli else TABLES
        text = text.replace("references_max = 3", "") if "references_max" in stimuli else text
        text = text.replace("references_synthetic = 1", "") if "references_synthetic =" in stimuli else text
        text = text.replace("catch = 3\n", "") if "catch" in stimuli else text
        study = tiny.write_study(tmp_path)
        with study.open("a") as file:
            file.write(text.format(stimuli=stimuli))
        with pytest.raises(StudyError, match=words) as fault:
            compute_study(read_study(study), tmp_path / "run")
        assert len(str(fault.value).splitlines()) == 1
        assert not (tmp_path / "run").exists()


def test_a_feature_that_cannot_be_shown_leaves_whole_stages_and_no_run(tmp_path):
    study = write(tmp_path)
    text = (tmp_path / "study.toml").read_text().replace('faulty = "skip"', 'faulty = "error"')
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(StudyError, match=r"synthesised images .* that did not fail, and 2 batches need 2"):
        compute_study(read_study(tmp_path / "study.toml"), tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
    assert not (tmp_path / "run" / "stimuli.parquet").exists()
    said = []
    compute_study(study, tmp_path / "run", say=said.append)  # the folder is free, and what is whole serves again
    assert "synthesised: kept from the run so far." in said


def test_a_view_is_found_by_its_id():
    class Set:
        table = pd.DataFrame({"image": ["a@b.png", "c.png"]})
        pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)

    views = Views(Set(), {"made/x@1": np.full((4, 4, 3), 7, np.uint8)})
    assert (views.pixels("a@b.png") == Set.pixels[0]).all()
    assert (views.pixels("made/x@1") == 7).all()
    part = views.pixels(crop_id("a@b.png", (2, 0, 4, 2)))
    assert (part == Set.pixels[0, 2:4, 0:2].repeat(2, 0).repeat(2, 1)).all()
    both = np.concatenate(list(views.blocks(["c.png", "a@b.png"] * 200)))
    assert both.shape == (400, 4, 4, 3) and (both[::2] == Set.pixels[1]).all()
    with pytest.raises(KeyError):
        views.numbers["d.png"]


def test_two_processes_show_what_one_shows(folder, made):
    command = [sys.executable, "-c", "from featurecompute.cli import main; main()", "compute"]
    alone = os.environ | {"OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    crew = [
        subprocess.Popen(
            [*command, folder / "study.toml", "--out", folder / "crew"],
            env=alone | {"RANK": rank},
            stderr=subprocess.PIPE,
        )
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=240)[1].decode() for process in crew]
    assert [process.returncode for process in crew] == [0, 0], said
    assert contents(folder / "crew") == contents(made.path)
