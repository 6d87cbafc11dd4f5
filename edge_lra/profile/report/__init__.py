"""Show a profile: on a terminal, as one page of HTML, as a trace for Perfetto."""

from edge_lra.profile.report.html import check_html, write_html
from edge_lra.profile.report.terminal import render
from edge_lra.profile.report.trace import write_trace
from edge_lra.whole_files import check_target

__all__ = ["check_html", "check_target", "render", "write_html", "write_trace"]
