"""Reports: a page for people, and its pictures."""

from conntrack_py.reporting.charts import CHARTS, Chart
from conntrack_py.reporting.make import Made, drawn, plot, report

__all__ = ("CHARTS", "Chart", "Made", "drawn", "plot", "report")
