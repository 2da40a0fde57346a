"""Summaries: initiators by direction, service, host and zone."""

from conntrack_py.summaries.model import Capture, Evidence, Host, Hosts, Large, Service, Summary, Totals, ZonePair
from conntrack_py.summaries.summarise import ROLES, SORTS, UNSURE, Sort, as_json, named, summarise, summary

__all__ = (
    "ROLES",
    "SORTS",
    "UNSURE",
    "Capture",
    "Evidence",
    "Host",
    "Hosts",
    "Large",
    "Service",
    "Sort",
    "Summary",
    "Totals",
    "ZonePair",
    "as_json",
    "named",
    "summarise",
    "summary",
)
