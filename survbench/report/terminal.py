"""Prints what the commands about results give; progress and warnings go to standard error, as everywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence

from survbench.console import stdout
from survbench.leaderboard.board import Leaderboard
from survbench.report.columns import to_csv
from survbench.report.studies import external_markdown, external_tables
from survbench.report.tables import to_markdown, to_rich
from survbench.report.written import document
from survbench.studies.external_validation import ExternalRow

__all__ = ["show_board"]


def show_board(board: Leaderboard, external: Sequence[ExternalRow], form: str, metric: str) -> None:
    """A leaderboard and the external validation below it, as rich, markdown, csv or json."""
    if form == "rich":
        stdout().print(to_rich(board, metric))
        for table in external_tables(external, metric):
            stdout().print(table.to_rich(), "")
    elif form == "markdown":
        print(to_markdown(board, metric), flush=True)
        if external:
            print(external_markdown(external, metric), flush=True)
    elif form == "csv":
        print(to_csv(board, metric), flush=True)
    else:
        print(json.dumps(document(board, external, metric), indent=1), flush=True)
