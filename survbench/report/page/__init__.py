"""The leaderboard as one HTML file that needs no network: `survbench leaderboard --html FILE`."""

from survbench.report.page.write import page_html, write_page

__all__ = ["page_html", "write_page"]
