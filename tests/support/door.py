"""A small cohort of plain tables, for tests of what an import reads, says and refuses."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pandas as pd

from survbench.cli import main
from survbench.data.importers import CohortReport, import_data
from survbench.data.root import CohortFolder, DataRoot

PATIENTS = [f"P{number:03d}" for number in range(1, 21)]
NUMBERED = [str(number) for number in range(1, 21)]
TCGA = [f"TCGA-ZZ-{number:04d}" for number in range(1, 21)]
GENES = ("TP53", "EGFR", "MYC")


def labels(patients: list[str] = PATIENTS) -> str:
    rows = [f"{patient},{number + 1}.5,{number % 2}" for number, patient in enumerate(patients)]
    return "\n".join(["patient,os_months,os_event", *rows, ""])


def value(row: int, gene: int) -> str:
    """Of a patient's place among PATIENTS, so that whose a value is can be told."""
    return f"{row * 7 % 20 * 0.37 + gene + 0.25:.2f}"


def table(
    names: list[str] = PATIENTS, genes: tuple[str, ...] = GENES, head: str = "patient", separator: str = ",",
    cells: dict[tuple[int, int], str] | None = None,
) -> str:  # fmt: skip
    """Expression; `cells` are those with another text, by row and gene."""
    rows = [
        [name, *((cells or {}).get((row, gene), value(row, gene)) for gene in range(len(genes)))]
        for row, name in enumerate(names)
    ]
    return "".join(separator.join(row) + "\n" for row in [[head, *genes], *rows])


def transposed(names: list[str], genes: tuple[str, ...] = GENES, head: str = "gene", separator: str = ",") -> str:
    rows = [[gene, *(value(row, place) for row in range(len(names)))] for place, gene in enumerate(genes)]
    return "".join(separator.join(row) + "\n" for row in [[head, *names], *rows])


def at_the_end(text: str) -> str:
    """A table with its first column moved to the end."""
    return "".join(",".join([*line.split(",")[1:], line.split(",")[0]]) + "\n" for line in text.splitlines())


def cohort(folder: Path, **files: str | bytes) -> Path:
    """A source named `mine`; a file `expression_csv` is expression.csv, and so on; labels.csv is there unless given."""
    source = folder / "mine"
    source.mkdir(exist_ok=True)
    for name, content in {"labels_csv": labels(), **files}.items():
        file = source / name.replace("_", ".")
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return source


def imported(folder: Path, **files: str | bytes) -> tuple[CohortReport, CohortFolder]:
    (report,) = import_data(cohort(folder, **files), folder / "DATA").cohorts
    return report, DataRoot.open(folder / "DATA").cohort("mine")


def expression(folder: Path, **files: str | bytes) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """What is in the root, and what was said."""
    report, root = imported(folder, **files)
    content = root.expression()
    assert content is not None
    return content, report.remarks


def typed(*arguments: object) -> int:
    """Run the command in this process; its exit code."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


def command(*arguments: object) -> tuple[int, str]:
    """Exit code and all that a command prints."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        code = typed(*arguments)
    return code, out.getvalue()
