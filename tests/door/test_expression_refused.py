"""Expression that cannot be right: one line names the file, the patient or the column, and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import door
from survbench.errors import SurvbenchError

LABELS = {"labels_csv": door.labels(door.NUMBERED)}
FIX_NAMES = "name the patient's column patient, and write identifiers in the same way in both files, as text"
ALIKE = "write identifiers in the same way in both files, as text"
OUT = "take such columns out of the expression table"
TEXT = "take columns that are no genes out of the expression table"
PLAIN = ("A1BG", "TP53", "MYC")
BAD = {
    "row numbers and no patients": (
        {"expression_csv": door.table([str(n) for n in range(20)], head=""), **LABELS},
        "{file} has no patient column: its column holds 0, 1, 2 and 17 more, the labels 1, 2, 3 and 17 more; "
        f"its columns are TP53, EGFR, MYC. {FIX_NAMES}",
    ),
    "a gene whose counts look like patients": (
        {"expression_csv": door.at_the_end(door.table(door.NUMBERED, head="A1BG")), **LABELS},
        "{file} has no patient column: its column 'TP53' holds 0.25, 2.84, 5.43 and 17 more, the labels 1, 2, 3 and 17 "
        f"more; its columns are TP53, EGFR, MYC, A1BG. {FIX_NAMES}",
    ),
    "counts of a gene in the first column": (
        {"expression_csv": door.table(door.NUMBERED, head="A1BG"), **LABELS},
        "{file} has no patient column: its column 'A1BG' holds 1, 2, 3 and 17 more, the labels 1, 2, 3 and 17 more; "
        f"its columns are A1BG, TP53, EGFR, MYC. {FIX_NAMES}",
    ),
    "zeros lost": (
        {
            "expression_csv": door.table(door.NUMBERED),
            "labels_csv": door.labels([n.zfill(3) for n in door.NUMBERED]),
        },
        "{file}: 0 of 20 patients of the labels have expression; it has 1, 2, 3 and 17 more, the labels 001, 002, 003 "
        f"and 17 more; 20 of them differ only by leading zeros or .0: '1' and '001', '2' and '002', '3' and "
        f"'003'. {ALIKE}",
    ),
    "zeros lost in columns": (
        {
            "expression_csv": door.transposed(door.NUMBERED),
            "labels_csv": door.labels([n.zfill(2) for n in door.NUMBERED]),
        },
        "{file}: 11 of 20 patients of the labels have expression; it has 1, 2, 3 and 6 more, the labels 01, 02, 03 "
        f"and 6 more; 9 of them differ only by leading zeros or .0: '1' and '01', '2' and '02', '3' and '03'. {ALIKE}",
    ),
    "read as floats": (
        {"expression_csv": door.table([f"{n}.0" for n in door.NUMBERED]), **LABELS},
        "{file}: 0 of 20 patients of the labels have expression; it has 1.0, 2.0, 3.0 and 17 more, the labels 1, 2, 3 "
        f"and 17 more; 20 of them differ only by leading zeros or .0: '1.0' and '1', '2.0' and '2', '3.0' and "
        f"'3'. {ALIKE}",
    ),
    "other people": (
        {"expression_csv": door.table([f"Q{n}" for n in range(20)])},
        "{file}: 0 of 20 patients of the labels have expression; it has Q0, Q1, Q2 and 17 more, the labels P001, P002, "
        f"P003 and 17 more; none is alike. {ALIKE}",
    ),
    "an ending of one's own": (
        {"expression_csv": door.table([f"{p}_T" for p in door.PATIENTS])},
        "{file}: 0 of 20 patients of the labels have expression; it has P001_T, P002_T, P003_T and 17 more, the labels "
        "P001, P002, P003 and 17 more; 20 of them differ only by an ending: 'P001_T' and 'P001', 'P002_T' and 'P002', "
        f"'P003_T' and 'P003'. {ALIKE}",
    ),
    "two patients' columns": (
        {"expression_csv": door.table([f"{p},X{p}" for p in door.PATIENTS], head="patient,case_id")},
        "{file} names patients in patient and case_id, which differ. keep one of these columns",
    ),
    "outcomes": (
        {"expression_csv": door.table(genes=("OS", "OS.time", "MYC"))},
        f"{{file}}: column 'OS' is an outcome, not a gene (2 such: OS, OS.time). {OUT}",
    ),
    "an outcome of MCAT": (
        {"expression_csv": door.table(genes=("TP53", "survival_months"))},
        f"{{file}}: column 'survival_months' is an outcome, not a gene. {OUT}",
    ),
    "an outcome in words": (
        {"expression_csv": door.table(genes=("TP53", "Overall Survival (Months)"))},
        f"{{file}}: column 'Overall Survival (Months)' is an outcome, not a gene. {OUT}",
    ),
    "a time under another name": (
        {"expression_csv": door.table(cells={(row, 1): f"{(row + 1.5) * 30.4375:.1f}" for row in range(20)})},
        f"{{file}}: column 'EGFR' follows os_months of the labels in all patients; it is an outcome, not a gene. {OUT}",
    ),
    "an event under another name": (
        {"expression_csv": door.table(cells={(row, 1): str(1 - row % 2) for row in range(20)})},
        f"{{file}}: column 'EGFR' follows os_event of the labels in all patients; it is an outcome, not a gene. {OUT}",
    ),
    "t and e": (
        {"expression_csv": door.table(genes=("t", "e", "TP53"))},
        f"{{file}}: column 't' is an outcome, not a gene. {OUT}",
    ),
    "an outcome in a row": (
        {"expression_csv": door.transposed(door.PATIENTS, genes=("TP53", "vital_status"))},
        "{file}: row 'vital_status' is an outcome, not a gene. take such rows out of the expression table",
    ),
    "a covariate": (
        {"expression_csv": door.table(genes=("TP53", "Age"))},
        f"{{file}}: column 'Age' is a covariate, not a gene. {OUT}",
    ),
    "annotations": (
        {"expression_csv": door.table(genes=PLAIN, cells={(row, 2): "Basal" for row in range(20)})},
        f"{{file}}: column 'MYC' is text, such as 'Basal', not a gene. {TEXT}",
    ),
    "yes and no": (
        {"expression_csv": door.table(genes=PLAIN, cells={(row, 1): "True" for row in range(20)})},
        f"{{file}}: column 'TP53' is text, such as 'True', not a gene. {TEXT}",
    ),
    "a word": (
        {"expression_csv": door.table(cells={(2, 1): "low"})},
        "{file}: patient P003, gene EGFR is 'low', expected a number. correct the cell",
    ),
    "a word in a table of gene rows": (
        {"expression_csv": door.transposed(door.PATIENTS).replace(door.value(2, 1), "low")},
        "{file}: patient P003, gene EGFR is 'low', expected a number. correct the cell",
    ),
    "a blank": (
        {"expression_csv": door.table(cells={(2, 1): "", (5, 0): "NA"})},
        "{file}: patient P003, gene EGFR is blank or NA (nan) (2 such values). "
        "expression must be finite; leave the gene or the patient out",
    ),
    "no number that a float32 holds": (
        {"expression_csv": door.table(cells={(2, 1): "1e39"})},
        "{file}: patient P003, gene EGFR is 1e+39 (1 such values). "
        "expression must be finite; leave the gene or the patient out",
    ),
    "two decimal signs": (
        {"expression_csv": door.table(separator=";", cells={(2, 1): "1,5"})},
        "{file}: patient P003, gene EGFR is '1,5', expected a number. write numbers with decimal points",
    ),
    "thousands": (
        {"expression_csv": door.table(separator="\t", cells={(0, 0): "1,000"}).replace(".", "0")},
        "{file}, line 2: '1,000' may have a decimal comma or thousands. write numbers with decimal points",
    ),
    "a gene twice": (
        {"expression_csv": door.table(genes=("TP53", "MYC", "TP53 "))},
        "{file}: gene TP53 is there twice. keep one entry per gene",
    ),
    "a gene without a name": (
        {"expression_csv": door.table(genes=("TP53", "", "MYC"))},
        "{file}: column 3 has no name. name it, or take it out",
    ),
    "numbers everywhere": (
        {"expression_csv": door.table(door.NUMBERED[:2], genes=tuple(door.NUMBERED[3:9]), head="")
         + "31,1,2,3,4,5,6\n", **LABELS},
        "{file}: both the rows and the columns have names of patients of the labels. "
        "name the column of the patients patient, or that of the genes gene",
    ),
    "patients in columns and no genes": (
        {"expression_csv": "\n".join(
            f"{n - 1 if n else ''},{line.split(',', 1)[1]}"
            for n, line in enumerate(door.transposed(door.PATIENTS).splitlines())
        )},
        "{file} has patients in columns and no column of genes. add a column gene",
    ),
    "a row without a patient": (
        {"expression_csv": door.table([*door.PATIENTS, ""])},
        "{file}, line 22: a row has no patient. take the row out",
    ),
    "a row without a name": (
        {"expression_csv": door.transposed(door.PATIENTS, genes=("TP53", "", "MYC"))},
        "{file}, line 3: a gene has no name. take the row out",
    ),
    "a date": (
        {"expression_csv": door.table(genes=("TP53", "1. Mrz"))},
        "{file}: gene '1. Mrz' is a date made by a spreadsheet. restore the gene symbols",
    ),
    "a date in a row": (
        {"expression_csv": door.transposed(door.PATIENTS, genes=("TP53", "Sep-02"))},
        "{file}: gene 'Sep-02' is a date made by a spreadsheet. restore the gene symbols",
    ),
    "a date's number": (
        {"expression_csv": door.table(genes=("TP53", "MYC", "44256"))},
        "{file}: gene '44256' is a date (days since 1900) made by a spreadsheet. restore the gene symbols",
    ),
    "no genes": (
        {"expression_csv": "patient\n" + "\n".join(door.PATIENTS)},
        "{file} has 20 patients and 0 genes. fill it, or remove it",
    ),
    "a header alone": (
        {"expression_csv": "patient,TP53\n"},
        "{file} has 0 patients and 1 genes. fill it, or remove it",
    ),
    "row names of R": (
        {"expression_csv": door.table().replace("patient,", "", 1)},
        "{file}, line 2 has 4 cells, the header 3; it begins 'P001,0.25,1.25,2.25'. "
        "name every column, also the first one (R: write.csv), and put cells that hold a separator into quotes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_expression_that_cannot_be_right(tmp_path: Path, kind: str) -> None:
    files, line = BAD[kind]
    with pytest.raises(SurvbenchError) as caught:
        door.imported(tmp_path, **files)
    assert str(caught.value) == line.format(file=tmp_path / "mine/expression.csv")
    assert not (tmp_path / "DATA").exists()


def test_a_mistake_ends_with_code_2(tmp_path: Path) -> None:
    source = door.cohort(tmp_path, expression_csv=door.table(genes=("OS", "TP53")))
    code, out = door.command("data", "import", source, "--out", tmp_path / "D")
    assert (code, out.splitlines()[-1]) == (
        2, f"error: {source}/expression.csv: column 'OS' is an outcome, not a gene. {OUT}",
    )  # fmt: skip
