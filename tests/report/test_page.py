"""What the page says, and that it needs nothing but itself."""

import json
import re
import shutil
from collections import Counter
from html import unescape

import h5py
import numpy as np
import pytest

from unpaired.errors import DataError, OutputError
from unpaired.report import plots
from unpaired.report.page import write_report
from unpaired.report.words import DASH

LINK = re.compile(r"""(?:src|href|xlink:href)\s*=\s*["']([^"']*)|url\(([^)]*)\)""")


def read(run, tmp_path):
    return write_report(run, out=tmp_path / "page.html").read_text(encoding="utf-8")


def text_of(html):
    """The words that are seen: no markup, no style."""
    html = re.sub(r"<style.*?</style>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", html)))


def section(html, name):
    return re.split(f'<section id="{name}"[^>]*>', html)[1].split("</section>")[0]


def rows_of(html):
    """Table rows as lists of the texts of their cells."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html, flags=re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in rows]
    return [[text_of(c).strip() for c in row] for row in cells]


@pytest.fixture(scope="module")
def known_page(known, tmp_path_factory):
    return read(known, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def troubled_page(troubled, tmp_path_factory):
    return read(troubled, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def many_page(many, tmp_path_factory):
    return read(many, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def older_page(older, tmp_path_factory):
    return read(older, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def bare_page(bare, tmp_path_factory):
    return read(bare, tmp_path_factory.mktemp("page"))


def test_report_is_beside_the_run_by_default(known, tmp_path):
    run = tmp_path / "copy"
    shutil.copytree(known, run)
    assert write_report(str(run)) == run / "report.html"
    assert (run / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_same_run_gives_the_same_page(known, known_page, tmp_path):
    assert read(known, tmp_path) == known_page


@pytest.mark.parametrize("page", ["known_page", "troubled_page", "many_page"])
def test_nothing_comes_from_outside(page, request):
    html = request.getfixturevalue(page)
    links = [a or b for a, b in LINK.findall(html)]
    assert links
    assert [k for k in links if not k.startswith(("data:image/png;base64,", "#"))] == []
    assert not re.search(r"<script|<link|<iframe|@import|\son\w+\s*=\s*\"", html)
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    assert not re.search("https?://", without_namespaces)


@pytest.mark.parametrize("page", ["known_page", "troubled_page", "many_page", "older_page", "bare_page"])
def test_what_is_not_known_is_a_dash(page, request):
    assert not re.search(r"\b(nan|None|inf|Undefined)\b", text_of(request.getfixturevalue(page)), flags=re.IGNORECASE)


def test_unknown_numbers_of_absent_labels_are_dashes(troubled_page):
    (row,) = [r for r in rows_of(section(troubled_page, "matching")) if r[0] == "only rna"]
    assert row == ["only rna", "5", "0", DASH, DASH, DASH, "absent", DASH, DASH, DASH]


@pytest.mark.parametrize("page", ["known_page", "older_page"])
def test_answer_gives_the_saved_headline(known, page, request):
    scores = json.loads((known / "scores.json").read_text())
    record = json.loads((known / "run.json").read_text())
    answer = text_of(request.getfixturevalue(page).split('id="answer">')[1].split("</p>")[0])
    assert "60 cells of rna were matched to 60 cells of image" in answer
    assert "(all 3 labels)" in answer
    assert f"{scores['trace_over_uniform']:#.2g} times as likely" in answer
    assert f"{scores['foscttm']['source']:.3f} / {scores['foscttm']['target']:.3f}" in answer
    blocks = record["matching"]["blocks"]
    partners = sum(b["partners"] * b["source_cells"] for b in blocks) / 60
    said = f"between about {partners:.2g} of 20 candidates" in answer
    assert said == (page == "older_page"), "a check says it, where there are checks"
    assert "No truth" not in answer


def test_table_of_scores_shows_what_was_saved(known, known_page):
    scores = json.loads((known / "scores.json").read_text())
    table = {row[0]: row[1:] for row in rows_of(section(known_page, "scores").split("</table>")[0])[1:]}
    names = list(table)
    assert [n.split(" Share")[0].split(" How")[0] for n in names][1:4] == [
        "Trace over uniform",
        "FOSCTTM, in rna",
        "FOSCTTM, in image",
    ]
    run, uniform, perfect, weighted = table[names[2]]
    assert run == f"{scores['foscttm']['source']:.3f}"
    assert uniform == f"{scores['uniform']['foscttm']['source']:.3f}" == "0.500"
    assert perfect == "0"
    assert weighted == f"{scores['weighted']['foscttm']['source']:.3f}"
    assert table[names[0]][0] == f"{scores['trace']:#.3g}"
    assert table[names[-1]] == [f"{scores['matching_score']:#.3g}", DASH, "1", DASH]
    assert "latent" not in section(known_page, "scores").lower()


def test_label_that_is_no_better_than_chance_is_shaded(known, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(known, run)
    scores = json.loads((run / "scores.json").read_text())
    for name, gain in (("a", 0.7), ("b", 2.0), ("c", 2.0)):
        scores["per_label"][name]["trace_over_uniform"] = gain
    (run / "scores.json").write_text(json.dumps(scores))
    shaded = re.findall(r'<tr class="off"><th scope="row">(.*?)</th>', section(read(run, tmp_path), "scores"))
    assert shaded == ["a"]


@pytest.mark.parametrize("page", ["known_page", "troubled_page", "older_page"])
def test_the_verdict_and_the_warnings_come_first(page, request):
    html = request.getfixturevalue(page)
    titles = re.findall(r"<h2>(.*?)</h2>", html)
    wanted = ["Reasons", "Warnings", "What went in", "Classifiers", "The common space", "Matching", "Scores"]
    wanted.append("How it was made")
    without = {"troubled_page": "Scores", "older_page": "Reasons"}.get(page)
    assert titles == [t for t in wanted if t != without]
    assert html.index('<section id="verdict"') < html.index('id="answer"') < html.index("<h2>")
    assert "<table" not in html.split("<h2>")[0]


@pytest.mark.parametrize("page", ["known_page", "older_page"])
def test_when_all_is_well_the_page_says_so(page, request):
    warnings = section(request.getfixturevalue(page), "warnings")
    assert "No warnings" in warnings
    assert ("can be taken at their word" in warnings) == (page == "older_page")
    assert 'class="warning"' not in warnings


def test_without_truth_and_diagnosis_the_page_says_what_it_cannot(bare_page):
    answer = text_of(bare_page.split('id="answer">')[1].split("</p>")[0])
    assert "No truth was given, so this page cannot say how many of the matches are right" in answer
    assert "FOSCTTM" not in bare_page


def test_without_truth_the_expected_quality_stands_in_for_it(troubled, troubled_page):
    answer = text_of(troubled_page.split('id="answer">')[1].split("</p>")[0])
    assert "No truth" not in troubled_page
    assert json.loads((troubled / "diagnosis.json").read_text())["sentence"] in text_of(
        section(troubled_page, "verdict")
    )
    assert "The true pairs are known" not in answer
    assert "(5 of 7 labels)" in answer
    assert "65 of 75 cells of rna were matched to 62 cells of image" in answer


def test_a_run_without_classifiers_does_not_speak_of_them(bare_page):
    said = text_of(bare_page)
    assert "by shared nearest neighbours ( match_snn ); k: 5, metric:" in said
    assert "lassifier" not in said
    assert '<section id="classifiers">' not in bare_page
    assert "no input file is recorded" in said


def test_troubles_are_named_with_their_advice(troubled_page):
    warnings = re.findall(r'<li class="warning">(.*?)</li>', section(troubled_page, "warnings"), flags=re.DOTALL)
    assert [text_of(w).strip() for w in warnings] == ["Warning: memory:rna: a feature is <b>constant</b>."]
    assert "No warnings" not in troubled_page
    (coverage,) = re.findall(r"<li[^>]*>(?:(?!</li>).)*<b>Coverage\.</b>.*?</li>", troubled_page, flags=re.DOTALL)
    seen = [text_of(w).strip() for w in re.findall(r'<div class="added">(.*?)</div>', coverage, flags=re.DOTALL)]
    assert "65 of 75 cells of rna and 62 of 62 of image are matched, in 5 of 7 labels." in text_of(coverage)
    assert seen[0].startswith("A cell has no partner where its label is unknown")
    absent = [w for w in seen if "image has no cell of this label" in w]
    small = [w for w in seen if "image has one cell of this label" in w]
    assert len(absent) == len(small) == 1, "labels with the same advice share a line"
    assert "2 labels not matched." in absent[0]
    assert absent[0].endswith("only rna, also only rna")
    assert small[0].endswith("one, uno")


def test_notes_are_apart_from_warnings(troubled_page):
    warnings = section(troubled_page, "warnings")
    notes = warnings.split('<ul class="notes">')[1]
    assert "<li>a plain remark.</li>" in notes
    assert "not trained on" in notes
    assert "constant" not in notes


def test_without_a_diagnosis_all_troubles_are_warnings(troubled, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(troubled, run)
    (run / "diagnosis.json").unlink()
    seen = text_of(section(read(run, tmp_path), "warnings"))
    assert "10 of 75 cells of rna (13.3 %) have no partner." in seen
    assert "2 labels not matched." in seen
    assert "2 labels matched without information." in seen


def test_names_are_escaped(troubled_page):
    assert "<script" not in troubled_page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in section(troubled_page, "matching")
    assert "<b>constant" not in troubled_page
    assert "&lt;b&gt;constant" in troubled_page


def test_what_went_in(troubled, troubled_page):
    record = json.loads((troubled / "run.json").read_text())
    data = section(troubled_page, "data")
    rows = {r[0]: r for r in rows_of(data)}
    assert rows["rna"][1:5] == ["75", "1", "6", "6"]
    assert record["modalities"]["rna"]["recipe"]["reason"] in rows["rna"][5]
    full = record["inputs"][0]["sha256"]
    assert f'title="{full}">{full[:12]}…<' in data
    assert full in section(troubled_page, "made")


def test_classifiers_are_shown_with_their_bases(known, known_page):
    record = json.loads((known / "run.json").read_text())
    part = section(known_page, "classifiers")
    quality = record["classifiers"]["rna"]
    (row,) = [r for r in rows_of(part) if r[0] == "rna"]
    assert row[1] == "logistic"
    assert row[3] == f"{100 * quality['base_accuracy']:.1f} %"
    assert row[4:8] == [
        f"{quality[k]:.3f}" for k in ("cross_entropy", "base_cross_entropy", "uncalibrated_error", "calibration_error")
    ]
    assert part.count("<svg") == 2 * len(record["modalities"])


def test_pictures_are_in_the_page(known_page):
    assert section(known_page, "space").count('src="data:image/png;base64,') == 2
    assert known_page.split("</header>")[0].count("<svg") == 1
    assert section(known_page, "reasons").count("<svg") == 4
    assert "<svg" not in section(known_page, "matching"), "partners by label are among the reasons"
    assert section(known_page, "scores").count("<svg") == 2


def test_a_run_without_diagnosis_keeps_its_pictures_and_says_so(older_page):
    assert "written without a diagnosis" in text_of(section(older_page, "verdict"))
    assert section(older_page, "matching").count("<svg") == 1
    assert section(older_page, "scores").count("<svg") == 1


def test_pictures_show_every_cell_of_the_space(troubled, tmp_path, monkeypatch):
    seen = []
    draw = plots.space
    monkeypatch.setattr(
        plots, "space", lambda xy, groups, names, **k: seen.append(groups) or draw(xy, groups, names, **k)
    )
    read(troubled, tmp_path)
    modality, label = seen
    record = json.loads((troubled / "run.json").read_text())
    assert np.bincount(modality).tolist() == [m["cells"] for m in record["modalities"].values()]
    for i, name in enumerate(record["modalities"]):
        counts = Counter(label[modality == i].tolist())
        saved = record["modalities"][name]["cells_by_label"]
        assert {record["classes"][g]: n for g, n in counts.items() if g >= 0} == saved
        assert counts[-1] == record["modalities"][name]["unlabelled"]


def with_options(run, tmp_path, **change):
    """The page of the run with other options of its matching; ``None``: without one."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    record = json.loads((copy / "run.json").read_text())
    options = record["matching"]["options"] | change
    record["matching"]["options"] = {k: v for k, v in options.items() if v is not None}
    (copy / "run.json").write_text(json.dumps(record))
    return text_of(section(read(copy, tmp_path), "matching"))


def test_matching_says_how_directions_were_weighted(known_page):
    said = text_of(section(known_page, "matching"))
    weighted = "2 directions of the space, weighted by the noise of the classifiers"
    assert f"{weighted} (how far the two modalities can agree there); regularisation eps = 2.00; cost: squared" in said


def test_matching_says_so_where_no_direction_has_weight(known, tmp_path):
    said = with_options(known, tmp_path, weighting={"directions": 0, "correlations": [], "information": 0.0})
    assert "no direction of the space has weight (beyond noise," in said


@pytest.mark.parametrize(
    ("origin", "words"), [("given", "as given"), ("noise", "set by the noise of the common space")], ids=str
)
def test_matching_without_weights_says_where_eps_came_from(known, tmp_path, origin, words):
    """A number, or the rule of the versions before."""
    said = with_options(known, tmp_path, weighting=None, eps=0.5, eps_from=origin)
    assert f"regularisation eps = 0.500, {words}; cost: squared Euclidean distance." in said


def test_tables_of_many_labels_are_folded(known_page, many_page):
    for name in ("matching", "scores"):
        assert "<details>" not in section(known_page, name)
        assert "(45 labels)</summary>" in section(many_page, name)
        folded = section(many_page, name).split("<details>")[1].split("</details>")[0]
        assert folded.count('<th scope="row">knock-down') == 45


def test_long_names_alike_stay_apart_in_pictures(many_page):
    pictures = re.findall(r"<svg.*?</svg>", section(many_page, "reasons"), flags=re.DOTALL)
    by_label = [p for p in pictures if "by label" in p[:200]]
    assert len(by_label) == 2
    for picture in by_label:
        assert re.search(r">GENE\d+<", picture)
        assert "knock-down" not in picture


def test_only_the_picture_is_read_of_the_large_file(known, known_page, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(known, run)
    with h5py.File(run / "aligned.h5mu", "a") as store:
        del store["obsp"], store["obsm/X_unpaired"]
        for modality in store["mod"].values():
            for name in [*modality, *(f"obs/{k}" for k in modality["obs"] if k != "unpaired_confidence")]:
                if name != "obs":
                    del modality[name]
    assert read(run, tmp_path) == known_page


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"run\.json"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content"), [("aligned.h5mu", None), ("aligned.h5mu", "x"), ("scores.json", "{"), ("diagnosis.json", "{")]
)
def test_a_broken_file_is_an_error(known, tmp_path, name, content):
    run = tmp_path / "run"
    shutil.copytree(known, run)
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_text(content)
    with pytest.raises(DataError, match=re.escape(name)):
        write_report(run)
    assert not (run / "report.html").exists()


def test_a_place_that_cannot_be_written_is_an_error(known, tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        write_report(known, out=tmp_path / "missing" / "page.html")
    with pytest.raises(OutputError, match="is a folder"):
        write_report(known, out=tmp_path)
