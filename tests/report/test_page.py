"""The page shows what the leaderboard holds, marks what has to be marked, and needs no other file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from support.job_folders import patients, write_job, write_row
from support.pages import INJECTED, full_page, write_map_folder, write_study_folder
from survbench.errors import BadConfig, UnknownName
from survbench.evaluation.compare import FoldPair, compare
from survbench.leaderboard.aggregate import build
from survbench.leaderboard.board import Leaderboard
from survbench.leaderboard.external_predictions import read_rows
from survbench.report.page import page_html, write_page
from survbench.report.page.differences import Resampling
from survbench.report.page.svg import page_style

VOID = frozenset({"meta", "input", "img", "br", "link"})


class Page(HTMLParser):
    """Elements in order: tag, attributes, text inside, and the identifiers of what they are inside of."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[dict[str, object]] = []
        self._open: list[dict[str, object]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        parents = [one["attributes"].get("id") for one in self._open]
        element = {"tag": tag, "attributes": dict(attrs), "text": "", "parents": parents}
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop()["tag"] == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element["text"] = str(element["text"]) + data

    def all(self, tag: str, inside: str | None = None, **attributes: str) -> list[dict[str, object]]:
        return [
            e
            for e in self.elements
            if e["tag"] == tag
            and (inside is None or inside in e["parents"])
            and all(value in (e["attributes"].get(key) or "").split() for key, value in attributes.items())
        ]


def attribute(element: dict[str, object], name: str) -> str | None:
    return element["attributes"].get(name)


def flat(element: dict[str, object]) -> str:
    return " ".join(str(element["text"]).split())


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def text(out: Path) -> str:
    return full_page(out)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


@pytest.fixture(scope="module")
def board(out: Path, text: str) -> Leaderboard:
    return build(out)


def simulated_section(board: Leaderboard) -> str:
    return f"table-{[table.simulated for table in board.tables].index('all') + 1}"


def test_every_measured_figure_stands_in_its_cell_with_its_value(page: Page, board: Leaderboard) -> None:
    cells = page.all("td")
    for row in board.rows:
        if not row.failed:
            summary = row.metrics["cindex"]
            (cell, *_) = [c for c in cells if attribute(c, "data-value") == str(summary.mean)]
            assert flat(cell).startswith(f"{summary.mean:.3f} ± {summary.sd:.3f}")


def test_tables_are_never_merged(page: Page, board: Leaderboard) -> None:
    sections = page.all("section", **{"class": "task"})
    assert [attribute(s, "id") for s in sections] == ["table-1", "table-2"]
    assert len(board.tables) == 2
    names = [[flat(n) for n in page.all("span", inside=f"table-{i}-view", **{"class": "name"})] for i in (1, 2)]
    assert [len(set(n)) for n in names] == [3, 5]  # the failed one has a row, too
    assert "never ranked together" in flat(page.all("div", **{"class": "notes"})[0])


def test_simulated_data_are_marked_on_every_view(page: Page, board: Leaderboard) -> None:
    section = simulated_section(board)
    assert "demo (simulated)" in flat(page.all("div", **{"class": "banner"})[0])
    views = page.all("caption", inside=section) + page.all("figcaption", inside=section)
    assert len(views) >= 10
    titles = [t for t in page.all("title", inside=section) if str(attribute(t, "id")).endswith("-title")]
    for view in [*views, *titles, *page.all("caption", inside="studies"), *page.all("figcaption", inside="studies")]:
        assert "simulated" in flat(view), flat(view)


def test_real_data_are_not_called_simulated(page: Page, board: Leaderboard, tmp_path: Path) -> None:
    (real,) = {"table-1", "table-2"} - {simulated_section(board)}
    for view in page.all("caption", inside=real) + page.all("figcaption", inside=real) + page.all("h2", inside=real):
        assert "simulated" not in flat(view)
    write_row(tmp_path, "snn")
    alone = Page(page_html(build(tmp_path), [], tmp_path))
    assert not alone.all("div", **{"class": "banner"})
    assert "simulated" not in flat(alone.all("title")[0])


def test_published_figures_are_marked_and_sort_nothing(page: Page) -> None:
    published = page.all("span", **{"class": "published"})
    assert "published 0.716 ± 0.057" in {flat(p) for p in published}
    assert not [c for c in page.all("td") if attribute(c, "data-value") == "0.716"]


def test_reconstructions_are_marked(page: Page) -> None:
    assert "AMKD †" in {flat(n) for n in page.all("span", **{"class": "name"})}
    assert "† AMKD is a reconstruction: the formulas are ours." in {flat(n) for n in page.all("li")}


def test_markup_in_names_is_text(page: Page, text: str) -> None:
    assert INJECTED in {str(n["text"]) for n in page.all("span", **{"class": "name"})}
    scripts = page.all("script")
    assert {attribute(s, "type") for s in scripts[:-1]} == {"application/json"}
    assert not page.all("img")
    assert not [e for e in page.elements if any(key.startswith("on") for key in e["attributes"])]
    names = [json.loads(str(s["text"]))["names"] for s in scripts[:-1]]
    assert any(INJECTED in some for some in names)
    assert "<script>window" not in text
    titles = [t for t in page.all("title") if INJECTED in str(t["text"]) and attribute(t, "id")]
    assert len(titles) >= 2


def test_only_the_pages_own_script_may_run(page: Page) -> None:
    (policy,) = [m for m in page.all("meta") if attribute(m, "http-equiv")]
    script = str(page.all("script")[-1]["text"])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    content = str(attribute(policy, "content"))
    assert "default-src 'none'" in content
    assert f"script-src 'sha256-{digest}'" in content


def test_nothing_is_fetched(page: Page, text: str) -> None:
    for element in page.elements:
        for key in ("src", "srcset", "href", "xlink:href", "data", "action", "poster"):
            value = attribute(element, key)
            assert value is None or value.startswith("#"), (element["tag"], key, value)
    assert not page.all("link")
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)


def test_identifiers_are_unique_and_references_lead_somewhere(page: Page) -> None:
    identifiers = [attribute(e, "id") for e in page.elements if attribute(e, "id")]
    assert len(identifiers) == len(set(identifiers))
    for element in page.elements:
        wanted = (attribute(element, "aria-labelledby") or "").split()
        link = attribute(element, "href")
        assert set(wanted) | ({link[1:]} if link else set()) <= set(identifiers)


def test_every_figure_has_a_text_alternative(page: Page) -> None:
    figures = page.all("svg")
    assert len(figures) >= 12
    for figure in figures:
        assert attribute(figure, "role") == "img"
        labels = str(attribute(figure, "aria-labelledby")).split()
        content = [flat(e) for e in page.elements if attribute(e, "id") in labels]
        assert len(content) == 2
        assert all(content)


def test_intervals_are_those_of_the_difference_from_one_risk_for_everybody(board: Leaderboard) -> None:
    """Such a model has a C-index of 0.5 in every resample, so its difference is the interval, moved."""
    row = next(r for r in board.rows if r.model == "amkd" and r.cohort == "stad")
    tests = [row.tests[0, fold].sort_values("patient") for fold in range(5)]
    pairs = [
        FoldPair(t["time"].to_numpy(), t["event"].to_numpy(), t[["risk"]].to_numpy().T, np.zeros((1, len(t))))
        for t in tests
    ]
    difference, expected = Resampling().interval(row), compare(pairs)
    for name in ("mean", "low", "high", "patient_low", "patient_high"):
        assert getattr(difference, name) == pytest.approx(getattr(expected, name) + 0.5, abs=1e-12)


def test_a_model_is_best_only_where_it_is_told_apart_from_all_others(page: Page, board: Leaderboard) -> None:
    view = f"{simulated_section(board)}-view"
    best = page.all("td", inside=view, **{"class": "best"})
    assert {attribute(b, "data-value") for b in best} == {"1.0"}  # SNN ranks everybody right
    real = "table-1-view" if view == "table-2-view" else "table-2-view"
    assert not page.all("td", inside=real, **{"class": "best"})


def test_noise_has_no_winner(tmp_path: Path) -> None:
    table, generator = patients(folds=5, per_fold=30), np.random.default_rng(1)
    for model in ("abmil", "snn", "mcat"):
        for fold in range(5):
            write_job(tmp_path, model, fold=fold, table=table, risks=generator.normal(size=30))
    page = Page(page_html(build(tmp_path), [], tmp_path))
    for look in ("best", "up", "down"):
        assert not page.all("td", **{"class": look})


def test_the_matrix_is_antisymmetric(page: Page, board: Leaderboard) -> None:
    section = simulated_section(board)
    cells = [c for c in page.all("td", inside=section) if re.fullmatch(r"[+−]\d\.\d{3}( \*)?|·", flat(c))][:25]
    values = np.array([0 if flat(c) == "·" else float(flat(c).rstrip(" *").replace("−", "-")) for c in cells])
    matrix = values.reshape(5, 5)
    assert (matrix == -matrix.T).all()
    means = {row.model: [] for row in board.rows if row.simulated == "all"}
    for row in board.rows:
        if row.simulated == "all":
            means[row.model].append(row.metrics["cindex"].mean)
    order = [line.model for line in board.tables[int(section[-1]) - 1].lines]
    expected = [[np.mean(means[a]) - np.mean(means[b]) for b in order] for a in order]
    assert matrix == pytest.approx(np.array(expected), abs=0.00051)


def test_failures_and_refusals_say_why(page: Page) -> None:
    failed = [s for s in page.all("span", **{"class": "bad"}) if flat(s) == "failed"]
    assert failed
    assert any("the loss became" in flat(note) for note in page.all("li"))
    (refused,) = page.all("section", **{"aria-labelledby": "refused-heading"})
    assert "Null on hnsc" in flat(refused)
    assert "missing" in flat(refused)


def test_folds_list_patients_events_and_pairs(page: Page, board: Leaderboard) -> None:
    section = simulated_section(board)
    rows = [r for r in page.all("tr", inside=section) if flat(r).startswith("fold ")]
    assert [flat(r) for r in rows] == [f"fold {i}" + 2 * "1616 ‡120" for i in range(5)]


def test_provenance_is_complete(page: Page, board: Leaderboard) -> None:
    section = next(s for s in page.all("section") if attribute(s, "id") == simulated_section(board))
    content = flat(section)
    for fact in (
        "hash-of-stad",
        "hash-of-brca",
        "uni_v1",
        "2 no slides",
        "0.1.0+0123456789ab",
        "3.11.7",
        "2.13.0+cpu",
        "x86_64",
    ):
        assert fact in content
    assert "50 jobs, 1 h 40 min of computing" in content
    assert "lowest validation loss on val" in content
    assert "up to 1.00 GiB a job" in content


def test_external_validation_and_ablations_are_there(page: Page) -> None:
    external, studies = (
        next(s for s in page.all("section") if attribute(s, "id") == i) for i in ("external", "studies")
    )
    assert "0.610 ± 0.020 [0.500, 0.700]" in flat(external)
    assert "0.716 ± 0.057" in flat(studies)
    assert INJECTED in str(studies["text"])


def test_the_map_of_known_truth_says_that_it_is_simulated(page: Page) -> None:
    maps = next(s for s in page.all("section") if attribute(s, "id") == "maps")
    content = flat(maps)
    assert "demo (simulated)" in content
    assert "every patient is invented" in content
    assert INJECTED in str(maps["text"])
    described = next(t for t in page.all("desc") if attribute(t, "id") == "map-figure-0-description")
    assert "60 patients, 50 % events, trace 2: gain +0.012 [-0.100, +0.130] [-0.050, +0.080]" in flat(described)


def test_a_damaged_map_is_left_out(tmp_path: Path) -> None:
    (write_map_folder(tmp_path) / "gains.csv").write_text("against\nx\n")
    write_row(tmp_path, "snn")
    assert 'id="maps"' not in page_html(build(tmp_path), [], tmp_path)


@pytest.mark.parametrize("text", ["", "arm,cohort\nx,y\n", "arm,cohort,simulated,reason\nx,y,,\n"])
def test_a_damaged_study_is_left_out(text: str, tmp_path: Path) -> None:
    (write_study_folder(tmp_path) / "table.csv").write_text(text)
    write_row(tmp_path, "snn")
    assert 'id="studies"' not in page_html(build(tmp_path), [], tmp_path)


def test_an_empty_leaderboard_says_how_to_fill_it(tmp_path: Path) -> None:
    assert "survbench run" in page_html(build(tmp_path), [], tmp_path)


@pytest.mark.parametrize("metric", ["ibs", "d_calibration"])
def test_another_metric_can_come_first(out: Path, text: str, metric: str) -> None:
    board = build(out, cohorts=["hnsc"])
    first = Page(page_html(board, [], out, metric)).all("caption")[0]
    assert flat(first).startswith({"ibs": "IBS", "d_calibration": "D-calibration"}[metric])


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="is a folder"):
        write_page(tmp_path, build(tmp_path), [], tmp_path)
    with pytest.raises(UnknownName, match="accuracy"):
        write_page(tmp_path / "page.html", build(tmp_path), [], tmp_path, "accuracy")


def test_the_command_writes_it_without_torch(out: Path, text: str, tmp_path: Path) -> None:
    file = tmp_path / "deeper" / "page.html"
    code = (
        "import sys; from survbench.cli import cli;"
        f"cli.main(['leaderboard', '--out', {str(out)!r}, '--cohort', 'hnsc', '--html', {str(file)!r}],"
        " standalone_mode=False); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert str(file) in done.stderr.replace("\n", "")
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [f.name for f in file.parent.iterdir()] == ["page.html"]


def test_external_predictions_stand_in_a_group_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "theirs.csv"
    table = patients(folds=3, per_fold=6).rename(columns={"patient": "case"})
    table.assign(model="theirs", cohort="stad", risk=-table["time"]).to_csv(file, index=False)
    rows, refused = read_rows(file, None, "os", censorship=None, time_unit="months")
    assert not refused
    page = Page(page_html(build(tmp_path, external_predictions=rows), [], tmp_path))
    (row,) = [r for r in page.all("tr", inside="table-1-view") if attribute(r, "data-place")]
    assert attribute(row, "data-group") == "external predictions"
    assert "1.000 ± 0.000" in flat(row)
    assert "data not known here" in flat(page.all("div", **{"class": "banner"})[0])


def test_no_style_set_before_shows_in_the_figures() -> None:
    """Libraries set styles for the whole process; colors that the page doesn't know would stay dark on dark."""
    from matplotlib import rcParams, rcParamsDefault, style

    with style.context("ggplot"):
        assert rcParams["xtick.color"] != rcParamsDefault["xtick.color"]
        with page_style():
            inside = {key: rcParams[key] for key in ("xtick.color", "axes.labelcolor", "axes.facecolor", "font.size")}
        assert rcParams["xtick.color"] != rcParamsDefault["xtick.color"]
    assert inside == {key: rcParamsDefault[key] for key in inside}
