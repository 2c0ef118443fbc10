"""The page of a run: in a browser it is whole, needs nothing else, and says what the tables say."""

import html
import re
import shutil

import pandas as pd
import pytest
from imagesets import encode, picture
from PIL import Image
from quick import command, complaint, compute, write_study

from featurecompute.files import write_arrays
from featurecompute.manifest import TABLES, load_run
from featurecompute.study import NetworkTable
from featurecompute.thumbnails import read_thumbnails

pytest.importorskip("torch")
pytest.importorskip("plotnine")

ODD = ("<script>alert(1)</script>", "{{x}}")


@pytest.fixture(scope="module")
def natural(tmp_path_factory):
    """Give a run on pictures in classes whose names are markup, one file's name too; and its page."""
    files = {f"{ODD[i % 2].replace('/', '∕')}/{i:02} <b>&.png": encode(picture(i)) for i in range(12)}
    source = "<img src=x onerror=alert(1)>"
    study = write_study(tmp_path_factory.mktemp("natural"), files, network={"name": f"net {ODD[0]} {ODD[1]} {source}"})
    return inspected(study)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Give a run on scenes, whose elements are known, with a network that was not trained; and its page."""
    from featurecompute import training

    folder = tmp_path_factory.mktemp("generated")
    network = training.build_network(NetworkTable())
    write_arrays(folder / "w.safetensors", {name: value.numpy() for name, value in network.state_dict().items()})
    study = write_study(
        folder,
        {},
        network={"source": "scenes", "weights": "w.safetensors", "layers": ["block2", "block5"]},
        images={"source": "scenes", "count": 200},
        features={"neurons": 3, "batch": 64},
        dictionary={"rank": 6, "stability_seeds": 0},
        contributions={"images": 8, "curves": 4, "methods": ["subtract"]},
        visualize={"images": 2, "steps": 4, "crops": 1},
        stimuli={"references_max": 2, "references_min": 2, "batches": 2, "references_synthetic": 1, "catch": 2}
        | {"references_per_class": 2, "practice": 2, "faulty": "skip"},
    )
    with study.open("a") as file:
        file.write("[design]\nparticipants = { natural = 3, mixed = 2 }\nmain = 2\ncatch = 1\npractice = 2\n")
    return inspected(study)


def inspected(study):
    answer = compute(study)
    assert answer.code == 0, answer.err
    answer = command("inspect", study.parent / "run")
    page = study.parent / "run" / "inspect.html"
    assert (answer.code, answer.out) == (0, f"{page}\n"), answer.err
    return page


@pytest.fixture(params=["natural", "generated"])
def page(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("width", [500, 1280])
def test_a_browser_shows_the_page_whole(page, browser, width):
    seen = browser(page, width)
    assert (seen.errors, seen.undrawn, seen.requests, seen.overflows) == ((), (), (), False)
    pairs = load_run(page.parent).table("pairs")
    more = page.read_text().count("Where ") + page.read_text().count("Images synthesised")
    assert seen.images == 4 * len(pairs) + more + page.read_text().count("<figure")
    assert page.read_text().count("<figure") >= 3


def test_the_page_needs_nothing_from_elsewhere(page):
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"<script|<iframe|<object|<embed|@import", text, flags=re.I)
    sources = re.findall(r"(?:src|href|srcset|data|action)=\"([^\"]+)", text)
    assert sources and all(one.startswith(("#", "data:image/")) for one in sources)
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(set(ids)) == len(ids)
    assert {one[1:] for one in sources if one.startswith("#")} <= set(ids)


def test_markup_in_names_shows_as_text(natural, browser):
    text = browser(natural).text
    for name in (*ODD, "<img src=x onerror=alert(1)>"):
        assert name in text


def test_a_page_without_known_elements_does_not_speak_of_them(natural):
    # Of selectivity it speaks, by class.
    assert not re.search("AUROC|generated|best element", natural.read_text(encoding="utf-8"))


def said(markup):
    """Return the text that markup shows."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def test_numbers_are_those_of_the_tables(page):
    run = load_run(page.parent)
    head, *blocks = page.read_text(encoding="utf-8").partition("<body>")[2].split('<section class="pair">')
    head = said(head)
    features = run.table("features").set_index("feature")
    pairs = run.table("pairs")
    assert f"{len(pairs)} pairs of a neuron" in head
    assert f"{run.record['images']['count']} images" in head
    assert f"Run {run.record['run_id']}, seed 1, cpu." in head
    for warning in run.record["warnings"]:
        assert warning in head
    for found in run.record["dictionaries"]:
        assert f"{found['layer']} {found['method']} {found['rank']} {found['reconstruction']:.3f}" in head
    known = (page.parent / "elements.parquet").is_file()
    elements = run.table("elements").set_index("feature") if known else pd.DataFrame()
    for pair, block in zip(pairs.to_dict("records"), blocks, strict=True):
        assert said(block).startswith(f"{pair['pair']} share {pair['share']:.0%}")
        assert ("direction shared with another neuron" in block) == pair["shared"]
        for side, card in zip(("local", "distributed"), block.split('<div class="feature ')[1:], strict=True):
            row = features.loc[pair[f"{side}_feature"]]
            shown = said("<" + card)
            assert shown.startswith(f"{side}: {row['basis']} {row['index']} most ") and " least " in shown
            assert f"mean, max activation {row['mean']:.3g}, {row['max']:.3g}" in shown
            assert f"silent in {row['sparsity']:.0%} of images" in shown
            for name in ("subtract", "reconstruct"):
                value = row[f"contribution_{name}"]
                assert (f"drop, {name}ed {value:.3g}" in shown) == pd.notna(value)
            if known and row.name in elements.index:
                found = elements.loc[row.name]
                assert f"{found['element']} ({found['kind']}), AUROC {found['auroc']:.2f}" in shown


def test_images_of_a_card_are_the_extremes(natural):
    run = load_run(natural.parent)
    small = read_thumbnails(run.path, run.table("images")["image"])
    extremes = run.table("extremes")
    assert set(extremes["image"]) == set(small)
    assert natural.read_text(encoding="utf-8").count("Images that drive") == 4 * len(run.table("pairs"))
    assert {len(image) for image in small.values()} == {16}
    for name, image in list(small.items())[:2]:
        path = natural.parents[1] / "images" / name
        with Image.open(path) as whole:
            assert whole.size == (40, 30) and abs(image.mean() - picture(int(path.name[:2])).mean()) < 15


def test_a_run_on_scenes_has_all_tables(generated):
    run = load_run(generated.parent)
    assert {path.stem for path in run.path.glob("*.parquet")} == set(TABLES)
    features = run.table("features")
    assert set(run.table("elements")["feature"]) <= set(features["feature"])
    assert set(run.table("images")["kind"]) == {"generated", "synthesised"}
    assert set(features["layer"]) <= {"block2", "block5"}


def test_the_page_is_the_same_twice_and_goes_where_it_is_asked_to(natural, tmp_path):
    answer = command("inspect", natural.parent, "--out", tmp_path / "new" / "page.html", "--quiet")
    assert answer.code == 0 and answer.err == "" and answer.out == f"{tmp_path / 'new' / 'page.html'}\n"
    assert (tmp_path / "new" / "page.html").read_bytes() == natural.read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"contributions": {"images": 0, "curves": 0}},
        {"contributions": {"methods": [], "curves": 0}},
        {"contributions": {"methods": ["reconstruct"], "images": 2, "curves": 0}},
        {"dictionary": {"scope": "unit"}, "features": {"neurons": 2, "rule": "correlation", "windows": [[0.2, 0.4]]}},
    ],
)
def test_runs_that_lack_something_have_a_page(tmp_path, changes):
    assert inspected(write_study(tmp_path, **changes)).stat().st_size > 10_000


def test_a_missing_or_damaged_run_is_one_sentence(natural, tmp_path):
    assert "none holds no complete run" in complaint(command("inspect", tmp_path / "none"))
    run = tmp_path / "run"
    for name, damage in (
        ("features.parquet", lambda path: path.write_bytes(b"x")),
        ("thumbnails.safetensors", lambda path: path.unlink()),
        ("run.json", lambda path: path.write_text("{")),
        ("run.json", lambda path: path.write_text("[]")),
    ):
        shutil.copytree(natural.parent, run)
        (run / "inspect.html").unlink()
        damage(run / name)
        assert str(run) in complaint(command("inspect", run)) and not (run / "inspect.html").exists()
        shutil.rmtree(run)


def test_a_page_that_cannot_be_written(natural, tmp_path):
    (tmp_path / "file").write_text("precious")
    assert "cannot be written" in complaint(command("inspect", natural.parent, "--out", tmp_path / "file" / "x.html"))
    (tmp_path / "folder").mkdir()
    assert "cannot be written" in complaint(command("inspect", natural.parent, "--out", tmp_path / "folder"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_the_page_of_a_run_with_stimuli_shows_where_features_answer_observers_and_balance(generated):
    run, text = load_run(generated.parent), generated.read_text(encoding="utf-8")
    pairs, rows = run.table("pairs"), run.table("synthesised")
    there = set(rows.loc[~rows["failed"], "feature"])
    shown = [
        pair[side] in there for pair in pairs.to_dict("records") for side in ("local_feature", "distributed_feature")
    ]
    assert text.count('alt="Where ') == 2 * len(pairs)
    assert text.count('alt="Images synthesised for ') == sum(shown) > 0
    observed = run.table("observed").query("phase == 'main' and not catch and experiment == 'natural'")
    local = observed.query("observer == 'pixel' and representation == 'local'")["probability"].mean()
    assert f'<td>natural</td><td class="text">pixel</td><td>{local:.3f}</td>' in text
    balance = run.table("balance")
    assert text.count("showings of a stimulus") == balance["experiment"].nunique() == 2


def test_the_page_of_a_run_without_stimuli_says_nothing_of_them(natural):
    text = natural.read_text(encoding="utf-8")
    assert "Observers" not in text and "#stimuli" not in text and "synthesised" not in text
