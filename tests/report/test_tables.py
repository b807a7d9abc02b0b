"""What is shown says what it is, in every format."""

from __future__ import annotations

import csv
import io
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from support.job_folders import patients, write_job, write_row
from survbench.errors import UnknownName
from survbench.evaluation.metrics import METRICS
from survbench.leaderboard.aggregate import build
from survbench.leaderboard.board import Leaderboard
from survbench.report.columns import to_csv, to_plain
from survbench.report.tables import to_markdown, to_rich
from survbench.report.wording import apart, blocks


def terminal(board: Leaderboard, width: int = 120, metric: str = "cindex") -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(to_rich(board, metric))
    return console.file.getvalue()  # type: ignore[attr-defined]


def flat(text: str) -> str:
    return " ".join(text.split())


@cache
def four_cohorts(simulated: str = "") -> Leaderboard:
    """Five models on the paper's four cohorts, each without signal."""
    with TemporaryDirectory() as folder:
        return _four_cohorts(Path(folder), simulated)


def _four_cohorts(out: Path, simulated: str) -> Leaderboard:
    table = patients(folds=3, per_fold=30)
    rng = np.random.default_rng(0)
    for cohort in ("brca", "stad", "hnsc", "crad"):
        for model in ("snn", "abmil", "amkd", "null", "mcat"):
            for fold in range(3):
                write_job(
                    out, model, fold=fold, cohort=cohort, table=table, risks=rng.normal(size=30), simulated=simulated
                )
    return build(out)


def test_models_stand_in_the_papers_groups() -> None:
    board = four_cohorts()
    for text in (terminal(board), to_markdown(board)):
        places = [text.index(word) for word in ("ABMIL", "SNN", "MCAT", "AMKD", "Null")]
        assert places == sorted(places)
        groups = [text.index(g) for g in ("slides (WSI)", "omics", "multimodal", "missing modality", "sanity")]
        assert groups == sorted(groups)


@pytest.mark.parametrize("width", [100, 120, 160])
def test_numbers_are_never_cut_or_wrapped(width: int) -> None:
    board = four_cohorts("all")
    text = terminal(board, width)
    assert max(map(len, text.splitlines())) <= width
    for row in board.rows:
        found = row.metrics["cindex"]
        assert f"{found.mean:.3f} ± {found.sd:.3f}" in text
    assert "…" not in text
    header = next(line for line in text.splitlines() if "brca" in line)
    assert all(word in header for word in ("model", "brca", "stad", "hnsc", "crad", "mean", "seeds", "param."))


def test_simulated_data_are_called_so_on_title_and_rows() -> None:
    board = four_cohorts("all")
    for text in (terminal(board), to_markdown(board)):
        assert "demo (simulated)" in text.splitlines()[0]
        assert text.count("demo (simulated)") >= 1 + 5
        assert "measured" not in text
        assert "not comparable with these" in flat(text)
    assert set(csv_rows(board, "measured", "data")) == {"demo (simulated)"}


def test_simulated_slides_are_called_so(tmp_path: Path) -> None:
    write_row(tmp_path, simulated="slides")
    text = terminal(build(tmp_path))
    assert text.count("simulated slides") >= 3
    assert "demo" not in text


def test_real_data_are_not_called_simulated() -> None:
    board = four_cohorts()
    for text in (terminal(board), to_markdown(board), to_csv(board)):
        assert "simulated" not in text
    assert "real patients" in terminal(board).splitlines()[0]


def csv_rows(board: Leaderboard, source: str, column: str) -> list[str]:
    return [row[column] for row in csv.DictReader(io.StringIO(to_csv(board))) if row["source"] == source]


def test_published_figures_stand_beside_and_are_marked() -> None:
    board = four_cohorts()
    lines = terminal(board).splitlines()
    beside = [line for line in lines if "0.716 ± 0.057" in line]
    assert len(beside) == 1
    assert beside[0].strip().startswith("published")
    assert "*0.716 ± 0.057*" in to_markdown(board)
    rows = to_plain(board)["rows"]
    published = [r for r in rows if r["source"] == "published"]
    assert {(r["model"], r["cohort"]) for r in published} == {
        (m, c) for m in ("abmil", "snn", "amkd", "mcat") for c in ("brca", "stad", "hnsc", "crad")
    }
    (amkd,) = [r for r in published if (r["model"], r["cohort"]) == ("amkd", "stad")]
    assert amkd["metrics"]["cindex"]["mean"] == 0.716
    assert amkd["logrank_p"] == 1.48e-3
    assert csv_rows(board, "published", "mean").count("0.716") == 1


def test_published_figures_stand_beside_the_registered_settings_alone(tmp_path: Path) -> None:
    """Of AMKD's two rows one is ablated; SNN was trained with another preset, so its figures stand apart."""
    write_row(tmp_path, "amkd", config={"without": []})
    write_row(tmp_path, "amkd", config={"without": ["regulation"]}, as_registered=False)
    write_row(tmp_path, "snn", training={"epochs": 40}, as_registered=False)
    board = build(tmp_path)
    (table,) = board.tables
    of = {(b.name, b.variant): [figure.label for figure in b.figures] for b in blocks(table, "cindex")}
    assert of["AMKD †", "without=[]"] == ["measured", "log-rank p", "published", "published p"]
    assert of["AMKD †", "without=['regulation']"] == ["measured", "log-rank p"]
    assert of["SNN", ""] == ["measured", "log-rank p"]
    (alone,) = apart(table, "cindex")
    assert (alone.name, [figure.cells for figure in alone.figures]) == ("SNN", [("0.533 ± 0.052",)])
    for text in (flat(terminal(board)), to_markdown(board)):
        assert text.count("0.716 ± 0.057") == 1
        assert text.index("not run as registered") < text.index("0.533 ± 0.052")
    assert apart(table, "auc") == []


def test_a_hospitals_own_cohort_of_the_same_name_has_no_published_figures(tmp_path: Path) -> None:
    own = patients().assign(patient=lambda table: table["patient"].str.replace("TCGA-", "H"))
    write_row(tmp_path, "amkd", table=own)
    write_row(tmp_path, "snn", table=own, training={"epochs": 40}, as_registered=False)
    board = build(tmp_path)
    assert "published" not in terminal(board)
    assert "published" not in to_markdown(board)
    assert {row["source"] for row in to_plain(board)["rows"]} == {"measured"}


def test_published_figures_are_shown_with_the_c_index_only(tmp_path: Path) -> None:
    write_row(tmp_path, "amkd")
    assert "published" not in terminal(build(tmp_path), metric="auc")


def test_the_json_document_has_the_promised_fields(tmp_path: Path) -> None:
    write_row(tmp_path, "amkd", simulated="all")
    write_job(tmp_path, "snn", fold=0)
    document = to_plain(build(tmp_path))
    assert set(document) >= {"rows", "refused"}
    (measured,) = [r for r in document["rows"] if r["source"] == "measured"]
    expected = {
        "model": "amkd",
        "cohort": "stad",
        "endpoint": "os",
        "folds": "event-stratified",
        "simulated": True,
        "seeds": [0],
        "parameters": 803_000,
        "fvcore_flops": 1_690_000_000,
    }
    assert {key: measured[key] for key in expected} == expected
    assert set(measured["metrics"]) == set(METRICS)
    figure = measured["metrics"]["cindex"]
    assert (figure["mean"], figure["sd"], figure["sd_sample"], figure["per_fold"]) == (1.0, 0.0, 0.0, [1.0, 1.0, 1.0])
    (refused,) = document["refused"]
    assert refused["row"]["model"] == "snn"
    assert "missing" in refused["reason"]


def test_nan_is_null_in_json_and_undefined_elsewhere(tmp_path: Path) -> None:
    table = patients()
    table.loc[table["fold"] == 1, "event"] = False
    write_row(tmp_path, table=table)
    board = build(tmp_path)
    figure = to_plain(board)["rows"][0]["metrics"]["cindex"]
    assert figure["mean"] is None
    assert figure["per_fold"] == [1.0, None, 1.0]
    for text in (terminal(board), to_markdown(board)):
        assert "undefined: SNN on stad: C-index, fold 1:" in flat(text)
    assert "nan" not in to_csv(board).lower()


def test_failed_rows_say_failed(tmp_path: Path) -> None:
    write_row(tmp_path, "abmil")
    write_job(tmp_path, "snn", fold=0, error="the loss became NaN")
    board = build(tmp_path)
    for text in (terminal(board), to_markdown(board)):
        assert "failed: SNN on stad: the loss became NaN" in flat(text)
    row = next(r for r in to_plain(board)["rows"] if r["model"] == "snn")
    assert (row["status"], row["errors"]) == ("failed", ["the loss became NaN"])
    assert row["metrics"]["cindex"]["mean"] is None
    assert "failed" in csv_rows(board, "measured", "status")


def test_seeds_are_marked(tmp_path: Path) -> None:
    write_row(tmp_path, "snn")
    write_row(tmp_path, "abmil", seeds=(0, 1, 2))
    text = terminal(build(tmp_path))
    assert "1 seed" in text
    assert "3 seeds" in text
    assert "SD over seeds" in text
    assert "a claim needs at least 3" in flat(text)


def test_footnotes_name_reconstructions_and_thin_folds(tmp_path: Path) -> None:
    write_row(tmp_path, "amkd")
    text = flat(terminal(build(tmp_path)))
    assert "AMKD †" in text
    assert "† AMKD is a reconstruction: the formulas are ours." in text
    assert "stad ‡" in text
    assert "‡ stad: the test split of fold 0, 1, 2 has under 10 events or 300 comparable pairs" in text


@pytest.mark.parametrize("name", ["[bold]red", "<script>alert(1)</script>", "a|b", "*x*", "[link=http://x]y[/link]"])
def test_markup_in_names_is_text(tmp_path: Path, name: str) -> None:
    write_row(tmp_path, name, card={"title": name})
    write_job(tmp_path, "snn", fold=0, error=f"{name} broke")
    board = build(tmp_path)
    assert name in terminal(board)
    assert f"{name} broke" in flat(terminal(board))
    markdown = to_markdown(board)
    assert "<script>" not in markdown
    header, *rows = [line for line in markdown.splitlines() if line.startswith("|")]
    separators = {row.replace("\\|", "").count("|") for row in (header, *rows)}
    assert len(separators) == 1
    assert to_plain(board)["rows"][0]["title"] in (name, "SNN")
    assert name in csv_rows(board, "measured", "title")


def test_another_metric_can_be_chosen() -> None:
    board = four_cohorts()
    for metric, shown in (("uno_c", "Uno's C"), ("ibs", "IBS"), ("auc", "AUC(t)")):
        assert shown in terminal(board, metric=metric).splitlines()[0]
        found = next(r for r in board.rows if r.model == "snn" and r.cohort == "stad").metrics[metric]
        if found.mean == found.mean:
            assert f"{found.mean:.3f} ± {found.sd:.3f}" in terminal(board, metric=metric)
    assert "smaller is better" in flat(terminal(board, metric="ibs"))


@pytest.mark.parametrize("render", [to_rich, to_markdown, to_csv, to_plain])
def test_an_unknown_metric_is_refused(tmp_path: Path, render: Any) -> None:
    with pytest.raises(UnknownName, match="accuracy"):
        render(build(tmp_path), "accuracy")


def test_an_empty_leaderboard_says_how_to_fill_it(tmp_path: Path) -> None:
    board = build(tmp_path)
    for text in (terminal(board), to_markdown(board)):
        assert "survbench run" in flat(text)
    assert to_plain(board) == {"rows": [], "differences": [], "refused": [], "notes": []}
    assert len(to_csv(board).splitlines()) == 1


def test_calibration_is_pooled_over_folds_and_has_no_mean_over_cohorts(tmp_path: Path) -> None:
    """30 patients over three folds; the mean over folds of their p is shown, the pooled test stands beside it."""
    table = patients(folds=3, per_fold=10)
    for cohort in ("stad", "crad"):
        write_row(tmp_path, "snn", cohort=cohort, table=table, risks=range(10), seeds=(0, 1))
    board = build(tmp_path)
    assert board.rows[0].calibration.patients == 30  # seeds share their patients
    assert sum(board.rows[0].calibration.counts) == pytest.approx(30)
    assert board.rows[0].calibration.p < min(board.rows[0].metrics["d_calibration"].per_fold)
    pooled, by_fold = (
        next(line for line in to_markdown(board, "d_calibration").splitlines() if name in line).split("|")
        for name in ("all folds pooled", "| measured |")
    )
    assert pooled[2].strip() == f"{board.rows[0].calibration.p:.3f}"
    assert by_fold[4].strip() == ""
    document = to_plain(board)["rows"][0]["calibration"]
    assert document["p"] == pytest.approx(board.rows[0].calibration.p)
    assert len(document["counts"]) == 10
