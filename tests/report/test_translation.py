"""What the page says of translations: lead, tables, pictures; and nothing where there are none."""

import json
import re
import shutil
import subprocess
import sys
from html import unescape

import numpy as np
import pytest
from markupsafe import Markup

from unpaired.embed.embedding import Provenance
from unpaired.errors import DataError
from unpaired.evaluate.translation import score_translation
from unpaired.report import pictures, translation_pictures
from unpaired.report.page import write_report
from unpaired.report.translation import METRICS, read_translations
from unpaired.report.words import DASH
from unpaired.translate.prediction import Prediction, feature_labels

SIX = [f"PC{i + 1}" for i in range(6)]
LABELS = ["a", "b", "c"]


def text_of(html):
    """The words that are seen: no markup, no style."""
    html = re.sub(r"<style.*?</style>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", html))).strip()


def rows_of(html):
    """Table rows as lists of the texts of their cells."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html, flags=re.DOTALL)
    return [[text_of(c) for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL)] for row in rows]


def section(html, number=1):
    return html.split(f'<section id="translation-{number}">')[1].split("</section>")[0]


def part_of(html, heading, number=1):
    """What stands under a heading of the section."""
    return re.split(r"<h3>", section(html, number).split(f"<h3>{heading}</h3>")[1])[0]


@pytest.fixture(scope="module")
def paged(bare, saved, tmp_path_factory):
    """Write the page of a small run with these translations."""

    def write(*records):
        copy = tmp_path_factory.mktemp("page") / "run"
        shutil.copytree(bare, copy)
        for record in records:
            saved.put(copy, record)
        return write_report(copy).read_text(encoding="utf-8")

    return write


@pytest.fixture(scope="module")
def whole(saved):
    """A translation with all three parts, in which nothing is wrong."""
    return saved.translation(
        {
            "train": (saved.pairs(SIX, 0.51, seed=1), saved.distributions(LABELS, gain=0.4, seed=1)),
            "label": (
                saved.pairs(SIX, 0.31, seed=2) | {"r2_of_label": None},
                saved.distributions(["held $out$"], seed=2),
            ),
            "test": (saved.pairs(SIX, 0.42), saved.distributions(LABELS)),
        }
    )


@pytest.fixture(scope="module")
def whole_page(paged, whole):
    return paged(whole)


@pytest.fixture
def no_pictures(monkeypatch):
    """Pages in no time, for tests of words and numbers."""
    for place in (pictures, translation_pictures):
        monkeypatch.setattr(place, "inline_svg", lambda ax, alt: Markup("<svg></svg>"))
    monkeypatch.setattr(pictures, "inline_png", lambda ax, alt: Markup("<img>"))


@pytest.fixture
def changed(whole):
    """A copy of it, to be changed."""
    return json.loads(json.dumps(whole))


@pytest.mark.usefixtures("no_pictures")
def test_a_run_without_translations_has_no_word_of_them(bare, paged):
    assert read_translations(bare) == []
    page = paged()
    assert "ranslation" not in page
    assert "predicted</a>" not in page


def test_the_page_leads_to_the_section_with_its_best_evidence(whole_page):
    answer = whole_page.split('id="answer">')[1].split("</p>")[0]
    assert (
        "From rna, image was predicted : R² is 0.42 on test cells (0 is knowing nothing, 0.22 is knowing the label, "
        "1 is perfect)."
    ) in text_of(answer)
    assert '<a href="#translation-1">' in answer
    titles = re.findall(r"<h2>(.*?)</h2>", whole_page)
    assert titles[-2:] == ["Translation: rna to image", "How it was made"]


def test_lead_says_what_was_predicted_and_what_each_part_means(whole_page):
    lead = text_of(section(whole_page).split("<h3>")[0])
    assert (
        "Readings of image (in the features of its recipe) were predicted from those of rna by an ensemble of 5 "
        "networks trained on the matching (entropic optimal transport), by the unbiased loss" in lead
    )
    items = [text_of(i) for i in re.findall(r"<li>(.*?)</li>", section(whole_page), flags=re.DOTALL)]
    assert [i.split(" (")[0] for i in items] == ["Test cells", "Cells of held-out labels", "Training cells"]
    assert "80; kept out of everything; the model knows their labels" in items[0]
    assert "R² is 0.42 (the label’s mean has 0.22) over 80 true pairs" in items[0]  # noqa: RUF001
    assert "R² is 0.31 over 80 true pairs" in items[1]
    assert "all cells of these labels were kept out" in items[1]
    assert "the model saw these cells and their matching" in items[2]
    assert "0 for knowing nothing" in lead
    assert "only a model that beats it says anything of single cells within a label. In labels that were" in lead
    assert "In labels that were held out, 0 is their own mean" in lead


def test_wasserstein_stands_beside_its_baseline_in_the_lead(whole, whole_page):
    d = whole["scores"]["test"]["distributions"]
    own, base = (f"{d[k]['wasserstein']:.3g}" for k in ("by_cells", "baseline_by_cells"))
    assert f"{own} away from the measured ones, cells of other labels {base} (1-Wasserstein)" in text_of(
        section(whole_page)
    )


def test_table_of_pairs_shows_what_was_saved(whole, whole_page):
    table = rows_of(part_of(whole_page, "Cell by cell, by the true pairs").split("</table>")[0])[1:]
    assert [row[0] for row in table] == ["Test cells", "Cells of held-out labels", "Training cells", "Knowing nothing"]
    assert table[0][1:] == ["80 of 80", "0.420", "0.220", "0.580", "1.00", "0.610", "6 of 6"]
    assert [row[2] for row in table] == ["0.420", "0.310", "0.510", "0"]
    assert [row[3] for row in table] == ["0.220", DASH, "0.310", ""]
    assert {len(row) for row in table} == {8}
    assert "Shaded: no better than knowing nothing" not in whole_page


@pytest.mark.usefixtures("no_pictures")
def test_a_part_that_the_label_alone_does_as_well_is_shaded(paged, changed):
    changed["scores"]["test"]["pairs"]["r2_of_label"] = 0.42
    cells = part_of(paged(changed), "Cell by cell, by the true pairs")
    shaded = re.findall(r'<tr class="off">(.*?)</tr>', cells, flags=re.DOTALL)
    assert [text_of(row).split(" 80 of")[0] for row in shaded] == ["Test cells"]
    assert "or than knowing only the label" in text_of(cells)


@pytest.mark.usefixtures("no_pictures")
def test_where_no_label_was_learned_from_nothing_is_said_of_its_mean(paged, saved):
    page = paged(saved.translation({"label": (saved.pairs(SIX, 0.3) | {"r2_of_label": None}, None)}))
    assert "0 is knowing nothing, 1 is perfect" in text_of(page)
    assert "the label’s mean" not in text_of(section(page).split("<h3>")[0])  # noqa: RUF001


def test_table_of_distances_shows_both_averages_beside_the_baseline(whole, whole_page):
    table = rows_of(part_of(whole_page, "Label by label, without true pairs").split("</table>")[0])[2:]
    assert len(table) == 3 * len(METRICS)
    rows = [row[1:] if len(row) == 7 else row for row in table]
    d = whole["scores"]["test"]["distributions"]
    kinds = ("by_cells", "baseline_by_cells", "by_inverse_cells", "baseline_by_inverse_cells")
    for row, (key, (name, _)) in zip(rows[:5], METRICS.items(), strict=True):
        assert row[0].startswith(name)
        assert [float(v) for v in row[1:5]] == pytest.approx([d[k][key] for k in kinds], rel=0.006)
        assert row[5] == "3 of 3"
    assert [row[0] for row in table if len(row) == 7] == ["Test cells", "Cells of held-out labels", "Training cells"]


def test_table_by_label_has_the_baseline_under_each_distance(whole, whole_page):
    folded = part_of(whole_page, "Label by label, without true pairs").split("Distances by label (3 labels)")[1]
    rows = {r[0]: r[1:] for r in rows_of(folded.split("</table>")[0])}
    found = whole["scores"]["test"]["distributions"]["per_label"]["b"]
    assert rows["b"][:2] == ["30", "32"]
    wanted = [f"{found[k]:#.3g} {found['baseline'][k]:#.3g}" for k in METRICS]
    assert rows["b"][2:] == wanted


@pytest.mark.usefixtures("no_pictures")
def test_what_was_compared_is_said_where_it_is_not_all(paged, changed):
    found = changed["scores"]["test"]["distributions"]["per_label"]["a"]
    found |= {"measured_cells": 3000, "predicted_cells": 5000, "compared": [2000, 1999]}
    rows = rows_of(part_of(paged(changed), "Label by label, without true pairs").split("</summary>")[1])
    (row,) = [r for r in rows if r[0] == "a"]
    assert row[1:3] == ["5,000 1,999 compared", "3,000 2,000 compared"]


def test_a_good_translation_adds_no_warning(whole_page):
    assert "Translation" not in whole_page.split('<section id="data">')[0]


def test_pictures(whole_page):
    cells, labels, training = (
        part_of(whole_page, h)
        for h in ("Cell by cell, by the true pairs", "Label by label, without true pairs", "Training")
    )
    assert (cells.count("<svg"), labels.count("<svg"), training.count("<svg")) == (4, 3, 1)
    assert "<details><summary>Training cells</summary>" in cells
    assert "<details><summary>Training cells</summary>" in labels
    ids = re.findall(r'\bid="([^"]*)"', section(whole_page))
    clips = [i for i in ids if not re.match(r"(figure|axes|patch|line|text|xtick|ytick|matplotlib|Path|legend)", i)]
    assert len(clips) == len(set(clips)), "what a picture refers to must be its own"


def test_few_features_have_a_bar_each_and_many_have_a_histogram(paged, saved):
    pages = {}
    for n in (40, 41):
        names = [f"gene {i}." for i in range(n)]
        pages[n] = part_of(
            paged(saved.translation({"test": (saved.pairs(names, 0.4), None)})), "Cell by cell, by the true pairs"
        )
    assert "How many features" not in pages[40]
    assert "the 12 best and the 12 worst" not in pages[40]
    assert "How many features are predicted how well, on test cells." in pages[41]
    bars = pages[41].split("R² by feature, on test cells")[1].split("</svg>")[0]
    assert re.findall(r">gene (\d+)\.<", bars) == [str(i) for i in [*range(12), *range(29, 41)]]


@pytest.mark.usefixtures("no_pictures")
def test_what_is_cut_off_is_said(paged, whole_page, changed):
    assert "What is below" not in whole_page
    changed["scores"]["label"]["pairs"]["per_feature"]["PC2"]["r2"] = -31.2
    assert "What is below" in text_of(paged(changed))


def test_what_is_not_known_is_a_dash(paged, saved):
    pairs, distances = saved.pairs(["only"], 0.3), saved.distributions(["only"])
    pairs |= {
        "r2": None,
        "r2_of_label": None,
        "pearson": None,
        "features": 0,
        "left_out": {"only": "it is flat."},
        "scatter": [],
    }
    pairs["per_feature"]["only"] = {"r2": None, "pearson": None}
    none = dict.fromkeys(METRICS)
    distances["per_label"]["only"] |= none | {"baseline": none, "not_computed": {"energy": "it is too few."}}
    for kind in ("by_cells", "by_inverse_cells", "baseline_by_cells", "baseline_by_inverse_cells"):
        distances[kind] = none
    training = {"history": [None, None], "seconds": None, "members": 1}
    page = paged(saved.translation({"test": (pairs, distances)}, training=training))
    said = text_of(section(page))
    assert not re.search(r"\b(nan|None|inf|Undefined)\b", said, flags=re.IGNORECASE)
    assert "R² cannot be said" in said
    assert f"80 of 80 {DASH} {DASH} 0.700 1.00 {DASH} 0 of 1" in said
    assert "Left out on test cells: only – it is flat." in said  # noqa: RUF001
    assert "No Energy distance: only – it is too few." in said  # noqa: RUF001
    assert "there is no other label to draw a baseline from" in said
    assert "2 epochs." in said


@pytest.mark.usefixtures("no_pictures")
def test_without_pairs_only_distributions_are_spoken_of(paged, saved):
    page = paged(saved.translation({"train": (None, saved.distributions(LABELS))}))
    said = text_of(section(page))
    assert "no true pairs are known; predicted cells of a label are" in said
    assert "R²" not in said
    assert "No cells were kept out" in said
    assert "without true pairs, see how alike predicted and measured cells of a label are" in text_of(page)


def test_with_cells_kept_out_the_advice_to_keep_some_is_not_given(whole_page):
    assert "No cells were kept out" not in whole_page


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("scores", [{}, {"test": (None, None)}])
def test_a_translation_that_could_not_be_scored(paged, saved, scores):
    training = {"history": [], "seconds": 1.0, "members": 1}
    page = paged(saved.translation(scores, options={}, training=training))
    assert "predicted , which could not be scored" in text_of(page)
    assert "Translation of rna to image: nothing could be scored." in text_of(page)
    assert "<svg" not in section(page)
    assert "were predicted from those of rna by a network trained on" in text_of(section(page))


@pytest.mark.usefixtures("no_pictures")
def test_both_directions_have_their_own_section(paged, whole, saved):
    other = saved.translation(
        {"train": (saved.pairs(["<b>gene</b>"], 0.2), None)},
        source="image",
        target="rna",
        space="raw",
        matching={"method": "read_matching", "sha256": "ef" * 32},
    )
    page = paged(whole, other)
    assert re.findall(r"<h2>(Translation.*?)</h2>", page) == ["Translation: image to rna", "Translation: rna to image"]
    first = section(page, 1)
    assert "Readings of rna (as measured)" in text_of(first)
    assert "trained on an imported matching" in text_of(first)
    assert "ef" * 32 in first
    assert "<b>gene" not in page


def test_options_and_hashes_are_folded(whole, whole_page):
    folded = section(whole_page).split("<details><summary>Options, versions and hashes of this translation")[1]
    assert whole["outputs"]["model.safetensors"] in folded
    assert "hidden 256" in text_of(folded)
    assert "auto" in text_of(folded)
    assert whole["outputs"]["model.safetensors"] not in section(whole_page).replace(folded, "")


@pytest.mark.usefixtures("no_pictures")
def test_plain_notes_stand_in_the_section_and_warnings_at_the_top(paged, whole):
    page = paged({**whole, "notes": ["held out: b & c.", "warning: it is <odd>."]})
    assert "<li>held out: b &amp; c.</li>" in section(page)
    assert "odd" not in section(page)
    assert "Translation of rna to image: it is &lt;odd&gt;." in page.split('<section id="data">')[0]


def test_nothing_comes_from_outside(whole_page):
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", whole_page)
    assert [k for k in links if not k.startswith(("data:image/png;base64,", "#"))] == []
    assert not re.search("https?://", re.sub(r'xmlns(:\w+)?="[^"]*"', "", whole_page))


def test_same_translation_gives_the_same_page(paged, whole, whole_page):
    assert paged(whole) == whole_page


@pytest.mark.usefixtures("no_pictures")
def test_the_page_reads_what_the_scores_write(paged, saved, toy):
    data, truth = toy(12)
    rows = np.arange(len(data["rna"]))
    mean = data["image"].flat_features[truth.partners("rna", "image")]
    mean = (mean + np.random.default_rng(0).normal(scale=0.1, size=mean.shape)).astype(np.float32)
    names = feature_labels(data["image"], "features")
    made = Prediction(
        "rna", "image", "features", rows, len(rows), mean, 0 * mean, names, Provenance("Translator", {}, ())
    )
    record = saved.translation({})
    record["scores"] = {
        "test": score_translation(made, data, truth).to_dict(),
        "train": score_translation(made, data).to_dict(),
    }
    said = text_of(section(paged(record)))
    r2 = record["scores"]["test"]["pairs"]["r2"]
    label = record["scores"]["test"]["pairs"]["r2_of_label"]
    assert 0 < label < r2
    assert f"R² is {r2:.2f} (the label’s mean has {label:.2f}) over {len(rows)} true pairs" in said  # noqa: RUF001
    assert f"{len(rows)} of {len(rows)} {r2:.3f} {label:.3f}" in said
    wasserstein = record["scores"]["test"]["distributions"]["by_cells"]["wasserstein"]
    assert f"{wasserstein:#.3g} away from the measured ones" in said


def test_checkpoints_and_stray_files_are_not_translations(bare, saved, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(bare, run)
    saved.put(run, whole)
    (run / "translations" / ".rna-to-image.checkpoint").mkdir()
    (run / "translations" / "notes.txt").write_text("mine")
    (run / "translations" / "mine").mkdir()
    assert [t.name for t in read_translations(run)] == ["rna to image"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "not the record of a translation"),
        ('{"format": "unpaired-run"}', "not the record of a translation"),
        ('{"format": "unpaired-translation", "format_version": 99}', "Use a newer version"),
        ('{"format": "unpaired-translation", "format_version": "1"}', "Use a newer version"),
        ('{"format": "unpaired-translation", "format_version": 1, "scores": null}', "lacks .*scores"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_a_broken_record_is_an_error(bare, tmp_path, content, said):
    run = tmp_path / "run"
    shutil.copytree(bare, run)
    folder = run / "translations" / "rna-to-image"
    folder.mkdir(parents=True)
    (folder / "translation.json").write_text(content)
    with pytest.raises(DataError, match=said) as error:
        write_report(run)
    assert str(folder / "translation.json") in str(error.value)


def test_torch_is_not_imported_for_the_page(bare, saved, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(bare, run)
    saved.put(run, whole)
    code = (
        "import sys; from unpaired.report.page import write_report\n"
        f"write_report({str(run)!r})\n"
        "assert not {'torch', 'lightning'} & set(sys.modules), 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
