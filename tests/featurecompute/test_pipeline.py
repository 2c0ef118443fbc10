"""The whole job: what it finds against brute force, every option, and the same bytes however often it was killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

import tiny  # noqa: E402
from tiny import contents  # noqa: E402

from featurecompute import manifest, training  # noqa: E402
from featurecompute.errors import InputError, RunError, StudyError  # noqa: E402
from featurecompute.files import read_json, write_arrays  # noqa: E402
from featurecompute.hooks import watch  # noqa: E402
from featurecompute.manifest import load_run  # noqa: E402
from featurecompute.pipeline import compute_study  # noqa: E402
from featurecompute.study import NetworkTable, read_study  # noqa: E402

LAYERS = ("first", "second")
REVISION = Path(__file__).parents[2] / "data" / "studies" / "colin2026.toml"


def run_in(folder, out="run", **tables):
    return compute_study(read_study(tiny.write_study(folder, **tables)), folder / out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("job")


@pytest.fixture(scope="module")
def made(folder):
    return run_in(folder)


def maps_of(values):
    """Return each layer's maps by hooks on the whole network, and the logits."""
    network, maps = tiny.build(), {}
    with torch.no_grad(), watch(network, {name: lambda o, n=name: maps.__setitem__(n, o.clone()) for name in LAYERS}):
        logits = network(values)
    return maps, logits


def test_the_images_of_a_neuron_are_those_of_brute_force(folder, made):
    values, ids = tiny.read_pixels(folder)
    maps, _ = maps_of(values)
    features, extremes = made.table("features"), made.table("extremes")
    for row in features[features["representation"] == "local"].to_dict(orient="records"):
        pooled = maps[row["layer"]][:, row["index"]].mean((1, 2)).double().numpy()
        mine = extremes[extremes["feature"] == row["feature"]]
        for side, order in (("top", np.argsort(-pooled, kind="stable")), ("bottom", np.argsort(pooled, kind="stable"))):
            found = mine[mine["side"] == side].sort_values("rank")
            assert len(found) == 12
            np.testing.assert_allclose(found["activation"], pooled[order[:12]], atol=1e-5)
            if np.min(np.abs(np.diff(pooled[order[:13]]))) > 1e-6:  # equal ones may stand in either order
                assert list(found["image"]) == [ids[image] for image in order[:12]]
        assert row["mean"] == pytest.approx(pooled.mean(), abs=1e-5)
        assert row["sd"] == pytest.approx(pooled.std(), abs=1e-5)


def test_nulling_a_neuron_is_what_hooks_on_the_whole_network_give(folder, made):
    values, ids = tiny.read_pixels(folder)
    place = {name: number for number, name in enumerate(ids)}
    network = tiny.build()
    rows = made.table("contributions").merge(made.table("features")[["feature", "layer", "index", "representation"]])
    rows = rows[(rows["representation"] == "local") & (rows["method"] == "subtract") & (rows["selection"] == "fixed")]
    assert rows["image"].nunique() == 20
    with torch.no_grad():
        whole = network(values)
        for row in rows.to_dict(orient="records"):

            def null(output, channel=row["index"]):
                output = output.clone()
                output[:, channel] = 0
                return output

            image = place[row["image"]]
            target = int(whole[image].argmax())
            with watch(network, {row["layer"]: null}):
                after = network(values[image : image + 1])[0, target]
            assert row["target"] == target
            assert row["logit_nulled"] == pytest.approx(float(after), abs=1e-4)
            assert row["drop"] == pytest.approx(float(whole[image, target] - after), abs=1e-4)
            assert row["residual"] == pytest.approx(0, abs=1e-5)


def test_the_most_active_neuron_is_that_of_brute_force(folder, made):
    values, ids = tiny.read_pixels(folder)
    maps, _ = maps_of(values)
    features = made.table("features").set_index("feature")
    rows = made.table("contributions").query("selection == 'most_active' and method == 'subtract'")
    rows = rows.join(features[["layer", "index", "representation"]], on="feature")
    for row in rows[rows["representation"] == "local"].to_dict(orient="records"):
        pooled = maps[row["layer"]].mean((2, 3)).double()
        spread = pooled.std(0, correction=0)
        scaled = torch.where(spread > 0, pooled / spread, -torch.inf)[ids.index(row["image"])]
        assert float(scaled[row["index"]]) == pytest.approx(float(scaled.max()), rel=1e-4)


def test_selectivity_is_by_the_commonest_class_of_the_top_images(made):
    rows = made.table("selectivity").query("method == 'subtract' and selection == 'fixed'").set_index("feature")
    labels = made.table("images").set_index("image")["label"]
    extremes, contributions = made.table("extremes"), made.table("contributions")
    for feature in made.table("pairs")["local_feature"]:
        top = extremes[(extremes["feature"] == feature) & (extremes["side"] == "top")]["image"].map(labels)
        counts = top.value_counts()
        element = min(counts[counts == counts.max()].index)
        assert rows.loc[feature, "element"] == element
        mine = contributions[(contributions["feature"] == feature) & (contributions["method"] == "subtract")]
        mine = mine[mine["selection"] == "fixed"]
        there = mine["image"].map(labels) == element
        wanted = mine["drop"][there].mean() / mine["drop"][~there].abs().mean()
        assert rows.loc[feature, "selectivity"] == pytest.approx(wanted)


def test_a_run_says_what_the_contract_asks_for(made):
    record = made.record
    for name in ("features", "pairs", "images", "contributions", "extremes", "curves", "areas", "norm_matched"):
        table = manifest.TABLES[name]
        assert list(made.table(name).columns) == list(table.columns)
    keys = ("schema", "run_id", "command", "seed", "versions", "study", "device", "network", "images", "dictionaries")
    assert {*keys, "stages", "sources", "warnings"} <= set(record)
    assert [layer["name"] for layer in record["network"]["layers"]] == list(LAYERS)
    assert {found["layer"] for found in record["dictionaries"]} == set(LAYERS)
    features, pairs = made.table("features").set_index("feature"), made.table("pairs")
    assert len(pairs) == 8
    for side, representation in (("local_feature", "local"), ("distributed_feature", "distributed")):
        assert (features.loc[pairs[side], "representation"] == representation).all()
    ids = set(made.table("images")["image"])
    assert set(made.table("contributions")["image"]) <= ids
    assert set(made.table("contributions")["feature"]) <= set(features.index)
    assert set(read_json(made.path / "timings.json")) == {stage["name"] for stage in record["stages"]}


def test_the_same_study_gives_the_same_bytes_and_is_answered_at_once(folder, made):
    again = run_in(folder, "again")
    assert contents(again.path) == contents(made.path)
    before = (made.path / "run.json").stat().st_mtime_ns
    assert run_in(folder).record == made.record
    assert (made.path / "run.json").stat().st_mtime_ns == before


def test_shards_do_not_change_what_is_found(folder, made):
    text = (folder / "study.toml").read_text().replace("shard = 16", "shard = 24")
    (folder / "other.toml").write_text(text)
    other = compute_study(read_study(folder / "other.toml"), folder / "sharded")
    for name in ("features", "pairs", "extremes", "contributions"):
        pd.testing.assert_frame_equal(other.table(name), made.table(name), rtol=1e-5, atol=1e-6)


COMMAND = [sys.executable, "-c", "from featurecompute.cli import main; main()", "compute"]


def test_a_run_that_is_killed_again_and_again_ends_the_same(folder, made):
    out = folder / "killed"
    command = [*COMMAND, str(folder / "study.toml"), "--out", str(out), "--resume", "--quiet"]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # as many threads as the run it is compared with
    chance, kills, deadline = random.Random(3), 0, time.monotonic() + 200
    while time.monotonic() < deadline:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, env=alone
        )
        # The first two seconds are imports, so that the first attempt ends in them and others where work is done.
        wait = chance.uniform(1.0, 2.0) + 0.5 * kills if kills < 6 else 90
        try:
            _, said = process.communicate(timeout=wait)
            assert process.returncode == 0, said.decode()
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
    assert (out / "run.json").is_file()
    assert kills >= 1, "the job was never killed, so nothing was tested"
    assert contents(out) == contents(made.path)


def test_a_run_that_stops_between_any_two_shards_goes_on(folder, made):
    """Every place where a shard or a stage ends is one to be interrupted at."""
    study, out, chance, stopped = read_study(folder / "study.toml"), folder / "stopped", random.Random(8), []

    def stop(stage, done, every):
        if chance.random() < 0.3:
            stopped.append(stage)
            raise KeyboardInterrupt

    for _ in range(80):
        try:
            compute_study(study, out, resume=True, progress=stop)
            break
        except KeyboardInterrupt:
            continue
    assert len(set(stopped)) > 2
    assert contents(out) == contents(made.path)


@pytest.mark.parametrize(
    "tables",
    [
        {"dictionary": 'method = "pca"'},
        {"dictionary": 'method = "kmeans"'},
        {"dictionary": 'method = "sae"\nsteps = 30'},
        {"dictionary": 'method = "semi_nmf"'},
        {"dictionary": 'scope = "unit"'},
        {"dictionary": "tile = 130"},
        {"dictionary": 'rows = "crops"'},
        {"dictionary": 'rows = "max"', "features": 'pooling = "max"'},
        {"features": 'rule = "crop"'},
        {"features": 'rule = "position"'},
        {"features": 'rule = "correlation"'},
        {"contributions": 'target = "label"\nmethods = ["subtract", "sobol"]\ndesigns = 4'},
        {"contributions": "most_active = false"},
    ],
    ids=lambda tables: " ".join(tables.values()).replace('"', "").replace("\n", " "),
)
def test_every_setting_runs_and_gives_pairs(tmp_path, tables):
    run = run_in(tmp_path, count=40, **tables)
    pairs, features = run.table("pairs"), run.table("features")
    assert len(pairs) == 8
    assert pairs["share"].between(-1, 1).all()
    rows = run.table("contributions")
    assert np.isfinite(rows["drop"]).all()
    assert set(pairs["distributed_feature"]) <= set(features["feature"])


def test_tiles_find_the_dictionary_that_all_rows_at_once_give(folder, made):
    (folder / "tiled.toml").write_text((folder / "study.toml").read_text().replace("rank = 6", "rank = 6\ntile = 250"))
    tiled = compute_study(read_study(folder / "tiled.toml"), folder / "tiled")
    for mine, wanted in zip(tiled.record["dictionaries"], made.record["dictionaries"], strict=True):
        assert mine["reconstruction"] == pytest.approx(wanted["reconstruction"], abs=5e-3)
        assert mine["parameters"]["penalty"] == pytest.approx(wanted["parameters"]["penalty"])
    names = {path.name for path in made.path.iterdir()}
    assert {path.name for path in tiled.path.iterdir()} == names


def test_tiles_of_what_needs_all_rows_are_refused(tmp_path):
    for settings in ('method = "pca"', 'scope = "unit"', 'rows = "mean"'):
        study = tiny.write_study(tmp_path, count=20, dictionary=f"tile = 100\n{settings}")
        with pytest.raises(InputError, match=r"\[dictionary\] tile is 100, but rows are read tile by tile only with"):
            compute_study(read_study(study), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_to_one_shares_no_direction(tmp_path):
    run = run_in(tmp_path, dictionary="", features="one_to_one = true")
    assert not run.table("pairs")["shared"].any()


def test_a_bf16_scan_finds_the_images_of_the_fp32_scan(folder, made):
    (folder / "fast.toml").write_text(
        (folder / "study.toml").read_text().replace("[features]", '[features]\nscan = "bf16"')
    )
    fast = compute_study(read_study(folder / "fast.toml"), folder / "fast")
    local = set(made.table("features").query("representation == 'local'")["feature"])
    chosen = [run.table("extremes").query("rank <= 5") for run in (made, fast)]
    chosen = [rows[rows["feature"].isin(local)] for rows in chosen]
    both = chosen[0].merge(chosen[1], on=["feature", "side", "rank"], suffixes=("", "_fast"))
    assert len(both) == len(chosen[0]) > 0
    np.testing.assert_allclose(both["activation"], both["activation_fast"], atol=1e-5)


def test_windows_are_ranks_of_all_images(tmp_path):
    run = run_in(tmp_path, features="windows = [[0.2, 0.3]]")
    maps, _ = maps_of(tiny.read_pixels(tmp_path)[0])
    features = run.table("features").query("representation == 'local'")
    rows = run.table("extremes").query("side == '0.2-0.3'")
    for feature in features.to_dict(orient="records"):
        pooled = maps[feature["layer"]][:, feature["index"]].mean((1, 2)).numpy()
        found = rows[rows["feature"] == feature["feature"]]
        np.testing.assert_allclose(found["activation"], np.sort(pooled)[::-1][12:18], atol=1e-5)


def test_images_that_changed_since_the_run_are_refused(tmp_path):
    study = tiny.write_study(tmp_path, count=30)
    compute_study(read_study(study), tmp_path / "run")
    image = next((tmp_path / "images").rglob("*.png"))
    image.write_bytes(next((tmp_path / "images" / "class3").rglob("*.png")).read_bytes())
    with pytest.raises(RunError, match="have changed since"):
        compute_study(read_study(study), tmp_path / "run")
    assert load_run(tmp_path / "run").record["images"]["count"] == 30


def test_a_damaged_run_is_said_and_mended_by_resuming(folder, made, tmp_path):
    study = tiny.write_study(tmp_path)
    first = compute_study(read_study(study), tmp_path / "run")
    whole = contents(first.path)
    path = tmp_path / "run" / "contributions.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(RunError, match=r"contributions\.parquet is not the file that was written.*--resume"):
        compute_study(read_study(study), tmp_path / "run")
    compute_study(read_study(study), tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == whole


def test_more_neurons_than_there_are_is_a_sentence(tmp_path):
    study = tiny.write_study(tmp_path, count=20)
    study.write_text(study.read_text().replace("neurons = 8", "neurons = 500"))
    with pytest.raises(StudyError, match="neurons is 500, but the layers have"):
        compute_study(read_study(study), tmp_path / "run")
    with pytest.raises(InputError, match="allowed are auto, cpu and cuda"):
        compute_study(read_study(study), tmp_path / "run", device="tpu")


def test_the_generated_scenes_have_matches_and_floors(tmp_path):
    network = training.build_network(NetworkTable())
    write_arrays(tmp_path / "net.safetensors", {name: value.numpy() for name, value in network.state_dict().items()})
    text = """
        [network]
        weights = "net.safetensors"
        layers = ["block5", "block6"]
        [images]
        count = 80
        [dictionary]
        rank = 8
        samples = 800
        stability_seeds = 0
        [features]
        neurons = 6
        top = 10
        [contributions]
        images = 16
        curves = 0
        methods = ["subtract"]
        """
    (tmp_path / "study.toml").write_text(text)
    run = compute_study(read_study(tmp_path / "study.toml"), tmp_path / "run")
    matches, elements = run.table("matches"), run.table("elements")
    assert set(matches["condition"].str.partition(",")[0]) == {"neuron", "thresholded", "nmf", "random"}
    assert (matches["candidates"] == 8).all()
    assert set(elements["feature"]) == set(
        run.table("pairs")[["local_feature", "distributed_feature"]].to_numpy().ravel()
    )
    assert elements["auroc"].between(0, 1).all()
    assert set(run.table("selectivity")["feature"]) == set(elements["feature"])
    assert (run.table("images")["kind"] == "generated").all()


SMALLER = {
    'weights = "resnet50.pth"\nuntrained = false\nsize = 224\nresize = 256': "untrained = true\nsize = 32\nresize = 32",
    'weights = "vgg16.pth"\n': "",
    'path = "imagenet/val"': 'path = "images"\ncache = "cache"',
    "rank = 300": "rank = 4\nstability_seeds = 0",
    "samples = 20000": "samples = 400",
    "neurons = 80": "neurons = 5",
    "top = 100": "top = 8\nbatch = 16",
    "images = 200": "images = 2\ncurves = 0\nmethods = ['subtract']",
    "references_max = 9\nreferences_min = 9\nbatches = 3\ncatch = 12": "references_max = 2\nreferences_min = 2\n"
    'batches = 1\ncatch = 2\nfaulty = "skip"',
    "practice = 5\npractice_hard = 1": "practice = 2\npractice_hard = 0",
    "natural = 481 }\nmain = 27\ncatch = 3\npractice = 5": "natural = 3 }\nmain = 2\ncatch = 1\npractice = 2",
}


def test_the_study_of_the_revision_computes_a_run_of_each_network(tmp_path, require):
    """Its own file, made smaller: other weights, fewer and smaller images, fewer features; layers are its own."""
    require("torchvision")
    tiny.write_study(tmp_path, count=20)
    text = REVISION.read_text(encoding="utf-8")
    for old, new in SMALLER.items():
        assert old in text, old
        text = text.replace(old, new)
    (tmp_path / "colin2026.toml").write_text(text)
    study = read_study(tmp_path / "colin2026.toml")
    runs = {name: compute_study(study.choose(name), tmp_path / name, device="cpu") for name in ("resnet50", "vgg16")}
    for name, run in runs.items():
        assert run.record["network"]["id"] == name and set(run.table("features")["network"]) == {name}
        assert [layer["signed"] for layer in run.record["network"]["layers"]] == [False] * (
            16 if name[0] == "r" else 13
        )
        assert len(run.table("pairs")) == 5 and run.table("features")["depth"].between(0, 1).all()
        assert len(run.table("trial_lists")) == 3 * 5
    for table, key in (("features", "feature"), ("pairs", "pair"), ("stimuli", "stimulus")):
        one, other = (set(run.table(table)[key]) for run in runs.values())
        assert one and other and not one & other


def test_the_study_of_the_revision_says_that_its_weights_are_not_there(tmp_path, require):
    require("torchvision")
    text = REVISION.read_text(encoding="utf-8")
    (tmp_path / "colin2026.toml").write_text(text)
    for name in ("resnet50", "vgg16"):
        with pytest.raises(InputError, match=rf"{name}\.pth"):
            compute_study(read_study(tmp_path / "colin2026.toml").choose(name), tmp_path / "run")
        assert not (tmp_path / "run").exists()
