"""The suite from Python: `survbench` exports what users call, and the commands call these functions, too.

Importing this is light: torch, pandas and the rest load when a function needs them.
"""

from survbench.api.data import check_data, fold_summaries, import_data, list_cohorts, load_cohort, pack_data
from survbench.api.finished import compare, explain_heatmaps, explain_pathways, load_results, predict
from survbench.api.jobs import ablate, estimate, measure_costs, run, study_transfer, tune
from survbench.api.results import Results
from survbench.api.setup import OUT, SCHEME

__all__ = [
    "OUT",
    "SCHEME",
    "Results",
    "ablate",
    "check_data",
    "compare",
    "estimate",
    "explain_heatmaps",
    "explain_pathways",
    "fold_summaries",
    "import_data",
    "list_cohorts",
    "load_cohort",
    "load_results",
    "measure_costs",
    "pack_data",
    "predict",
    "run",
    "study_transfer",
    "tune",
]
