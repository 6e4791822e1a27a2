"""The report of an evaluation: ``report.html``."""

from .writer import REPORT_FILE, Evaluated, ReportSource, write_report

__all__ = ["REPORT_FILE", "Evaluated", "ReportSource", "write_report"]
