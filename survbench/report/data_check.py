"""The table of `survbench data check`: what a data root holds, beside what a publication states of the real cohorts."""

from __future__ import annotations

from survbench.console import shown
from survbench.data.check import CheckReport
from survbench.report.sheet import Sheet

__all__ = ["check_sheet"]

NAMED = 5  # patients named in a note; JSON has all


def check_sheet(report: CheckReport) -> Sheet:
    """One row per cohort, with the published count in brackets; who lacks what, and the problems, are notes."""
    rows, notes = [], []
    for name, counts in report.cohorts.items():
        stated = report.published.get(name, {})
        patients, slides, patches = (
            f"{getattr(counts, k):,}" + (f" [{stated[k]:,}]" if k in stated else "")
            for k in ("patients", "slides", "patches")
        )
        events = ", ".join(f"{endpoint} {n}" for endpoint, n in counts.events.items())
        kind = "simulated" if counts.simulated else "simulated slides" if counts.simulated_slides else "real"
        rows.append((name, patients, events, slides, patches, f"{counts.genes:,}", counts.pathways, kind))
        for modality, lacking in counts.missing.items():
            if lacking:
                notes.append(f"{name}: {len(lacking)} without {modality}: {shown(lacking, NAMED)}")
        notes += [f"{name}: {line}" for line in counts.remarks]
    notes += [f"problem: {p.problem}. {p.fix}".removesuffix(". ") for p in report.problems]
    count = len(report.problems)
    found = f"{count} problem{'s' * (count > 1)}" if count else "no problems found"
    notes.append(f"{found} ({report.read})")
    return Sheet(
        title="Cohorts; in brackets what the paper's Table 1 states for the real ones",
        headers=("cohort", "patients", "events", "slides", "patches", "genes", "pathways", "data"),
        rows=rows,
        notes=notes,
        align="lrlrrrrl",
    )
