"""The commands: what a run's folder holds, what is said where, and what becomes of faults."""

import contextlib
import json
import os
import pickle
import resource
import shutil
import stat
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from imagesets import encode, picture
from PIL import Image
from quick import Answer, command, complaint, compute, pictures, write_study

from featurecompute import manifest
from featurecompute.files import hash_file
from featurecompute.manifest import TABLES, load_run

torch = pytest.importorskip("torch")

ALWAYS = ("features", "pairs", "images", "extremes", "contributions", "curves", "areas", "norm_matched")
RECORD = """schema run_id command seed versions study{path sha256} device{kind name dtype threads}
    network{id source weights_sha256 preprocessing layers[name index depth channels signed]}
    images{count sha256 decoder decoder_version skipped[path reason]}
    dictionaries[layer method rank scope seed sha256 reconstruction sparsity dead stability]
    stages[name inputs_sha256 status outputs] sources warnings"""


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Give a study and its run, which no test may change."""
    study = write_study(tmp_path_factory.mktemp("made"), sources={"dictionary.rank": "assumed"})
    assert compute(study).code == 0
    return study


@pytest.fixture
def copied(made, tmp_path):
    """Give a study and its run to be changed; the images keep their times."""
    shutil.copytree(made.parent, tmp_path / "copied")
    return tmp_path / "copied" / made.name


# What a run holds and says -----------------------------------------------------------------------------------------


def test_the_command_ends_with_the_folder_on_stdout_and_talk_on_stderr(tmp_path):
    study = write_study(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "featurecompute.cli", "compute", "study.toml", "--out", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "run\n"), done.stderr
    assert done.stderr == "12 of 12 images are read to see which they are.\n"
    again = compute(study, "--quiet")  # from another folder, but the same run
    assert again == Answer(0, f"{tmp_path / 'run'}\n", "")


def test_the_folder_holds_the_tables_of_the_contract(made):
    folder = made.parent / "run"
    # Selectivity too, by class: the images have labels.
    assert {path.stem for path in folder.glob("*.parquet")} == {*ALWAYS, "selectivity"}
    assert not list(folder.rglob(".*"))
    listed = {
        "features": "feature network layer layer_index depth representation basis basis_hash index n_images mean sd max"
        " sparsity dead contribution_subtract contribution_reconstruct",
        "pairs": "pair local_feature distributed_feature rule share shared",
        "images": "image path sha256 kind label entropy edge_density compressed_bytes",
        "contributions": "feature image method selection target logit logit_nulled drop residual norm",
    }
    for name, columns in listed.items():
        table = pd.read_parquet(folder / f"{name}.parquet")
        assert [column for column in table.columns if column in columns.split()] == columns.split(), name
        assert not table.duplicated(list(TABLES[name].key)).any()
        assert len(table)


def test_the_tables_join(made):
    run = load_run(made.parent / "run")
    features, pairs, images = (
        run.table(name).set_index(TABLES[name].key[0]) for name in ("features", "pairs", "images")
    )
    assert len(pairs) == 4 and len(images) == 12 and set(images["label"]) == {"a", "b"}
    assert (features.loc[pairs["local_feature"], "representation"] == "local").all()
    assert (features.loc[pairs["distributed_feature"], "representation"] == "distributed").all()
    for local, distributed in zip(pairs["local_feature"], pairs["distributed_feature"], strict=True):
        assert features.at[local, "layer"] == features.at[distributed, "layer"]
    contributions, extremes = run.table("contributions"), run.table("extremes")
    assert set(contributions["feature"]) | set(extremes["feature"]) <= set(features.index)
    assert set(contributions["image"]) | set(extremes["image"]) <= set(images.index)
    assert contributions["image"].nunique() == 6
    fixed = contributions[contributions["selection"] == "fixed"]
    for method in ("subtract", "reconstruct"):
        means = fixed[fixed["method"] == method].groupby("feature")["drop"].mean()
        assert set(pairs["local_feature"]) | set(pairs["distributed_feature"]) <= set(means.index)
        np.testing.assert_allclose(features.loc[means.index, f"contribution_{method}"], means)
    assert {layer["name"]: (layer["index"], layer["depth"]) for layer in run.record["network"]["layers"]} == {
        "relu1": (0, 0.0),
        "relu2": (1, 0.5),
    }


def test_the_record_has_the_keys_of_the_contract(made):
    record = json.loads((made.parent / "run" / "run.json").read_text())

    def check(text, value):
        name = ""
        depth = 0
        inner = ""
        for letter in text + " ":
            if letter in "{[":
                inner += letter * (depth > 0)
                depth += 1
            elif letter in "}]":
                depth -= 1
                if depth:
                    inner += letter
                else:
                    for each in value[name] if letter == "]" else [value[name]]:
                        check(inner, each)
                    name, inner = "", ""
            elif depth:
                inner += letter
            elif letter.isspace():
                assert not name or name in value, name
                name = ""
            else:
                name += letter

    check(RECORD, record)
    assert record["schema"] == manifest.SCHEMA and record["seed"] == 1
    assert record["command"][:2] == ["featurecompute", "compute"]
    assert record["study"]["sha256"] == hash_file(made)
    assert record["sources"] == {"dictionary.rank": "assumed"}
    assert record["images"]["count"] == 12 and record["images"]["skipped"] == []
    assert record["device"]["dtype"] == "fp32"
    outputs = [output for stage in record["stages"] for output in stage["outputs"]]
    assert {f"{name}.parquet" for name in ALWAYS} <= {output["path"] for output in outputs}
    for output in outputs:
        assert hash_file(made.parent / "run" / output["path"]) == output["sha256"]
    assert "seconds" not in json.dumps(record)


def test_a_second_call_is_answered_from_the_folder(made):
    before = contents(made.parent / "run")
    answer = compute(made, "--json")
    assert answer.code == 0
    assert json.loads(answer.out) == json.loads(before["run.json"])
    assert contents(made.parent / "run") == before


def test_the_same_study_elsewhere_makes_the_same_bytes(made, tmp_path):
    study = write_study(tmp_path / "x", sources={"dictionary.rank": "assumed"})
    assert compute(study, out=tmp_path / "other").code == 0
    one, other = contents(made.parent / "run"), contents(tmp_path / "other")
    assert set(one) == set(other)
    assert {name for name in one if one[name] != other[name]} <= {"run.json", "timings.json"}  # paths, seconds


def test_another_seed_is_another_run(made, tmp_path):
    assert compute(made, "--seed", 7, out=tmp_path / "seven").code == 0
    one, other = load_run(made.parent / "run"), load_run(tmp_path / "seven")
    assert one.record["run_id"] != other.record["run_id"] and other.record["seed"] == 7
    assert one.record["images"]["sha256"] == other.record["images"]["sha256"]
    assert set(one.table("features")["feature"]) != set(other.table("features")["feature"])
    assert "other settings" in complaint(compute(made, "--seed", 7))


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Give a study of two networks, alike but for their seed, and the runs of both."""
    stimuli = {"references_max": 2, "references_min": 2, "batches": 1, "catch": 1, "practice": 2, "practice_hard": 0}
    study = write_study(
        tmp_path_factory.mktemp("networks"),
        stimuli=stimuli | {"experiments": ["natural"], "faulty": "skip"},
        sources={"networks.other.layers": "assumed: the same"},
    )
    people = "[design]\nparticipants = { natural = 2 }\nmain = 1\ncatch = 1\npractice = 2\n"
    with study.open("a") as file:
        file.write(f'[networks.other]\nlayers = ["relu1", "relu2"]\n[networks.other.features]\ntop = 4\n{people}')
    assert compute(study).code == 0
    answer = compute(study, "--network", "other", out=study.parent / "second")
    assert answer.code == 0, answer.err
    return study


def test_runs_of_two_networks_of_a_study_have_no_id_in_common(networks):
    one, other = (load_run(networks.parent / name) for name in ("run", "second"))
    assert one.record["run_id"] != other.record["run_id"]
    assert (one.record["network"]["id"], other.record["network"]["id"]) == ("tiny:build", "other")
    assert other.record["settings"]["chosen"] == "other" and other.record["settings"]["features"]["top"] == 4
    assert other.record["network"]["weights_sha256"] == one.record["network"]["weights_sha256"]  # yet no id is shared
    assert set(one.table("features")["network"]) == {"tiny:build"}
    assert set(other.table("features")["network"]) == {"other"}
    assert one.record["sources"] == other.record["sources"] == {"networks.other.layers": "assumed: the same"}
    for table, key in (
        ("features", "feature"),
        ("pairs", "pair"),
        ("stimuli", "stimulus"),
        ("trial_lists", "participant"),
    ):
        ids = [set(run.table(table)[key]) for run in (one, other)]
        assert ids[0] and ids[1] and not ids[0] & ids[1], table
    for run in (one, other):
        assert set(run.table("trial_lists")["stimulus"]) <= set(run.table("stimuli")["stimulus"])


def test_two_networks_do_not_share_a_folder_and_an_unknown_one_is_named(networks, tmp_path):
    for out, name in (("run", ["--network", "other"]), ("second", [])):
        before = contents(networks.parent / out)
        said = complaint(compute(networks, *name, "--resume", out=networks.parent / out))
        assert "another network of the study" in said and "give another folder" in said
        assert contents(networks.parent / out) == before
    said = complaint(compute(networks, "--network", "othr", out=tmp_path / "run"))
    assert said.endswith("has no network 'othr' (did you mean 'other'?); allowed are other.")
    assert not (tmp_path / "run").exists()
    assert compute(networks, "--network", "other", out=networks.parent / "second").code == 0  # answered from there


@pytest.mark.parametrize("arguments", [["--help"], ["compute", "--help"], ["inspect", "--help"], ["--version"]])
def test_help_and_version(arguments):
    answer = command(*arguments)
    assert answer.code == 0 and answer.out and not answer.err


# Images ------------------------------------------------------------------------------------------------------------

BROKEN = {"text": b"no picture", "truncated": encode(picture(3, 200, 200), "JPEG")[:3000], "empty": b""}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_image_is_named(tmp_path, what):
    said = complaint(compute(write_study(tmp_path, {**pictures(), "a/x.jpg": BROKEN[what]})))
    assert said.startswith("1 of 13 images cannot be decoded (images/a/x.jpg: ")
    assert said.endswith('or set [images] faulty = "skip" to leave them out.')
    assert not (tmp_path / "run").exists()


def test_a_broken_image_can_be_left_out(tmp_path):
    study = write_study(tmp_path, {**pictures(), "a/x.jpg": b"no picture"}, images={"faulty": "skip"})
    answer = compute(study)
    assert answer.code == 0
    assert "Warning: 1 of 13 images cannot be decoded and are left out" in answer.err
    record = load_run(tmp_path / "run").record
    assert record["images"]["count"] == 12
    assert [each["path"] for each in record["images"]["skipped"]] == ["images/a/x.jpg"]


def test_a_folder_without_images(tmp_path):
    assert f"{tmp_path / 'images'} holds no images" in complaint(compute(write_study(tmp_path, {})))
    assert not (tmp_path / "run").exists()


def test_images_of_every_mode(tmp_path):
    colour, ramp = Image.fromarray(picture(1)), np.arange(900).reshape(30, 30) * 70
    others = {
        "a/cmyk.jpg": encode(colour.convert("CMYK"), "JPEG"),
        "a/alpha.png": encode(colour.convert("RGBA")),
        "b/deep.png": encode(Image.fromarray(ramp.astype(np.uint16))),
        "b/palette.png": encode(colour.convert("P")),
    }
    assert compute(write_study(tmp_path, {**pictures(), **others})).code == 0
    images = load_run(tmp_path / "run").table("images").set_index("image")
    assert len(images) == 16 and images["entropy"].min() > 1


@pytest.mark.parametrize("count", [2, 3])
def test_fewer_images_than_are_kept_at_each_end(tmp_path, count):
    unlabelled = {f"{i}.png": encode(picture(i)) for i in range(count)}
    assert compute(write_study(tmp_path, unlabelled)).code == 0
    run = load_run(tmp_path / "run")
    assert run.table("extremes").groupby(["feature", "side"]).size().unique().tolist() == [count]
    assert run.table("images")["label"].isna().all()


@pytest.mark.parametrize("count", [1, 4])
def test_images_that_are_all_alike_show_nothing(tmp_path, count):
    grey = encode(np.full((30, 30, 3), 90, np.uint8))
    said = complaint(compute(write_study(tmp_path, {f"{i}.png": grey for i in range(count)})))
    assert said.startswith("no channel of the layers tells one image from another") and "more different, images" in said


def test_labels_are_needed_only_as_the_target(tmp_path):
    study = write_study(tmp_path, {f"{i}.png": encode(picture(i)) for i in range(4)}, contributions={"target": "label"})
    said = complaint(compute(study))
    assert "[contributions] target is 'label'" in said and "4 images have no label" in said
    assert not (tmp_path / "run" / "dictionaries").exists()  # said before the long stages
    assert "Set target to 'predicted'" in said
    # What was whole is kept for the mended study, which may take the folder.
    write_study(tmp_path, {}, contributions={"target": "predicted"})
    answer = compute(study)
    assert answer.code == 0 and "neurons: kept from the run so far." in answer.err


# Networks ----------------------------------------------------------------------------------------------------------


class Evil:
    """A pickle that would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.safetensors"])
def test_weights_that_cannot_be_read(tmp_path, name):
    study = write_study(tmp_path, network={"weights": name})
    assert f"there is no file of weights {tmp_path / name}" in complaint(compute(study))
    (tmp_path / name).write_bytes(b"junk")
    assert f"the weights {tmp_path / name} cannot be read: " in complaint(compute(study))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("saved", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_weights_is_not_run(tmp_path, saved):
    saved({"first.weight": Evil(tmp_path / "evil")}, tmp_path / "w.pt")
    said = complaint(compute(write_study(tmp_path, network={"weights": "w.pt"})))
    assert f"the weights {tmp_path / 'w.pt'} hold more than tensors" in said and "nothing was read" in said
    assert not (tmp_path / "evil").exists() and not (tmp_path / "run").exists()


def test_weights_with_nan(tmp_path):
    study = write_study(tmp_path, network={"weights": "w.pt"})
    namespace = {}
    exec((tmp_path / "tiny.py").read_text(), namespace)
    state = namespace["build"]()[0].state_dict()
    state["second.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "w.pt")
    assert complaint(compute(study)) == f"the weights {tmp_path / 'w.pt'} have NaN or infinity in second.weight."


FAULTS = {
    "missing layer": ({"network": {"layers": ["rellu2"]}}, "no layer 'rellu2' (did you mean 'relu2'"),
    "layer used twice": ({"network": {"layers": ["twice"]}}, "layer 'twice' runs 2 times in one pass"),
    "no function": ({"network": {"source": "tiny:bild"}}, "has no 'bild' (did you mean 'build'?)"),
    "no module": ({"network": {"source": "nothere:build"}}, "there is no module 'nothere'"),
    "no library": ({"network": {"source": "torchvison"}}, "did you mean 'torchvision'?"),
    "unknown key": ({"features": {"neurns": 3}}, "unknown key 'neurns' in [features] (did you mean 'neurons'?)"),
    "unknown table": ({"feature": {}}, "unknown table [feature] (did you mean 'features'?)"),
    "too many neurons": ({"features": {"neurons": 40}}, "neurons is 40, but the layers have 16 channels"),
    "no such neuron": ({"features": {"neurons": ["relu1:8"]}}, "names 'relu1:8'; the channels of relu1 are 0 to 7"),
    "no folder": ({"images": {"path": "pictures"}}, "pictures"),
    "no dictionary": ({"dictionary": {"method": "file", "path": "d.safetensors"}}, "d.safetensors cannot be read"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_study_is_one_sentence(tmp_path, fault):
    changes, sentence = FAULTS[fault]
    study = write_study(tmp_path, **changes)
    assert sentence in complaint(compute(study))
    late = fault in ("too many neurons", "no such neuron", "no dictionary")  # known once the images were looked at
    assert (tmp_path / "run").exists() == late
    assert not (tmp_path / "run" / "run.json").exists()
    assert not list(tmp_path.rglob(".*"))


def test_an_output_that_is_a_tuple_is_read(tmp_path):
    assert compute(write_study(tmp_path, network={"layers": ["split"]}, contributions={"curves": 0})).code == 0
    assert set(load_run(tmp_path / "run").table("features")["layer"]) == {"split"}


# The call and the folder -------------------------------------------------------------------------------------------


def test_a_study_that_is_not_there(tmp_path):
    said = complaint(compute(tmp_path / "none.toml"))
    assert said == f"the study file {tmp_path / 'none.toml'} cannot be read: No such file or directory."
    assert not (tmp_path / "run").exists()


def test_devices(tmp_path, monkeypatch):
    study = write_study(tmp_path)
    assert complaint(compute(study, "--device", "tpu")) == "--device is 'tpu'; allowed are auto, cpu and cuda."
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device is cuda, but torch sees no CUDA device here" in complaint(compute(study, "--device", "cuda"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["compute"],
        ["compute", "x.toml"],
        ["compote"],
        ["inspect"],
        ["compute", "x", "--out", "y", "--seed", "-1"],
        ["compute", "x", "--out", "y", "--seed", str(2**63)],
    ],
)
def test_wrong_usage(arguments):
    answer = command(*arguments)
    assert answer.code == 2 and not answer.out and "Traceback" not in answer.err and answer.err


def test_a_place_that_is_no_folder_for_a_run(tmp_path):
    study = write_study(tmp_path)
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("precious")
    assert f"{tmp_path / 'file'} cannot be looked into: Not a directory" in complaint(
        compute(study, out=tmp_path / "file")
    )
    assert "Not a directory" in complaint(compute(study, out=tmp_path / "file" / "run"))
    assert "is not empty and holds no run; give another folder" in complaint(compute(study, out=tmp_path / "folder"))
    assert (tmp_path / "file").read_text() == "precious"
    assert contents(tmp_path / "folder") == {"thesis.txt": b"precious"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(tmp_path):
    study = write_study(tmp_path / "study")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert "Permission denied" in complaint(compute(study, out=tmp_path / "closed" / "run"))


def test_nothing_can_be_written_below_a_device(tmp_path):
    assert "cannot be" in complaint(compute(write_study(tmp_path), out="/dev/null/run"))


@pytest.mark.parametrize("options", [[], ["--resume"]])
@pytest.mark.parametrize("file", ["tiny.py", "images/a/00.png"])
def test_a_complete_run_of_other_files_is_refused(copied, file, options):
    path = copied.parent / file
    if file == "tiny.py":  # the weights stay the same
        path.write_text(path.read_text().replace("+ first", "- first"))
    else:
        path.write_bytes(encode(picture(99)))
    before = contents(copied.parent / "run")
    said = complaint(compute(copied, *options))
    assert ("other settings, files or versions" if file == "tiny.py" else "have changed since") in said
    assert "give another folder" in said
    assert contents(copied.parent / "run") == before


def test_an_unfinished_run_goes_on_only_when_asked(copied, made):
    (copied.parent / "run" / "run.json").unlink()
    (copied.parent / "run" / "features.parquet").unlink()
    assert "holds an unfinished run of this study; go on with it by --resume" in complaint(compute(copied))
    answer = compute(copied, "--resume")
    assert answer.code == 0
    assert "neurons: kept from the run so far." in answer.err and "features: kept" not in answer.err
    one, other = contents(made.parent / "run"), contents(copied.parent / "run")
    assert {name for name in one if one[name] != other[name]} <= {"run.json", "timings.json", "stages/features.json"}
    assert one["stages/features.json"] == other["stages/features.json"]


@pytest.mark.parametrize("change", ["another picture", "one more", "one less", "another name"])
def test_an_unfinished_run_whose_images_changed_begins_anew(copied, tmp_path, change):
    """The files are those of a run that never saw the old images; only their shards still lie there, read by none."""
    (copied.parent / "run" / "run.json").unlink()
    (copied.parent / "run" / "features.parquet").unlink()
    first = copied.parent / "images" / "a" / "00.png"
    if change == "another picture":
        first.write_bytes(encode(picture(99)))
    elif change == "one more":
        first.with_name("zz.png").write_bytes(encode(picture(99)))
    elif change == "one less":
        first.unlink()
    else:
        first.rename(first.with_name("zz.png"))
    assert "go on with it by --resume" in complaint(compute(copied))
    answer = compute(copied, "--resume")
    assert answer.code == 0, answer.err
    assert "kept from the run so far" not in answer.err
    assert compute(copied, out=tmp_path / "fresh").code == 0
    resumed, fresh = contents(copied.parent / "run"), contents(tmp_path / "fresh")
    shards = {name for name in resumed if name.startswith("shards/")}
    assert set(resumed) - shards == set(fresh) - {name for name in fresh if name.startswith("shards/")}
    assert {name for name in fresh if fresh[name] != resumed[name]} <= {"run.json", "timings.json"}


@contextlib.contextmanager
def largest_file(size):
    """Let no file grow beyond some bytes, as on a full disk: the same calls fail, for another reason that is told."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("file", ["dictionaries/relu1.safetensors", "features.parquet", "contributions.parquet"])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(copied, made, file):
    run = copied.parent / "run"
    size = (run / file).stat().st_size
    (run / file).unlink()
    (run / "run.json").unlink()
    with largest_file(size - 1):
        said = complaint(compute(copied, "--resume", "--quiet"))
    assert f"{run / file} cannot be written: " in said and "File too large" in said
    assert not (run / file).exists() and not list(run.rglob(".*")) and not (run / "run.json").exists()
    assert compute(copied, "--resume").code == 0
    assert (run / file).read_bytes() == (made.parent / "run" / file).read_bytes()


def test_a_full_disk_of_decoded_images_is_one_sentence(tmp_path):
    study = write_study(tmp_path)
    with largest_file(5000):
        said = complaint(compute(study))
    assert "File too large" in said and str(tmp_path / "cache") in said
    assert compute(study).code == 0


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_run_is_mended_only_when_asked(copied, made, damage):
    path = copied.parent / "run" / "pairs.parquet"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"x")
    assert "pairs.parquet is" in (said := complaint(compute(copied))) and "with --resume mends it" in said
    assert compute(copied, "--resume").code == 0
    assert path.read_bytes() == (made.parent / "run" / "pairs.parquet").read_bytes()


def test_an_interruption_keeps_what_is_done(tmp_path, monkeypatch):
    study = write_study(tmp_path)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("featurecompute.job.pair_neurons", interrupt)
        answer = compute(study)
    assert answer.code == 130 and "--resume goes on with it" in answer.err
    assert "--resume" in complaint(compute(study))
    assert compute(study, "--resume").code == 0


def test_a_fault_of_ours_is_told_as_one(tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("x")

    monkeypatch.setattr("featurecompute.job.pair_neurons", fail)
    answer = compute(write_study(tmp_path))
    assert answer.code == 1 and "internal error: ZeroDivisionError: x" in answer.err and "Traceback" not in answer.err
