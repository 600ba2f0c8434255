"""The figures of the reports: one Vega-Lite specification each, drawn as SVG."""

from lmzoo.report.charts.alignment import by_divergence, by_rollout, by_task, wins
from lmzoo.report.charts.bars import by_species
from lmzoo.report.charts.calibration import by_confidence
from lmzoo.report.charts.history import by_year
from lmzoo.report.charts.ladder import ladder
from lmzoo.report.charts.learning import by_parameters, by_train_tokens, by_training_flops
from lmzoo.report.charts.lines import by_context, by_distance, by_text_read
from lmzoo.report.charts.states import state_graph
from lmzoo.report.charts.style import Chart, DrawingError, as_svg, title_of, write_svg
from lmzoo.report.charts.trade_offs import by_setting, quality_and_cost
from lmzoo.report.charts.training import by_training

__all__ = [
    "Chart",
    "DrawingError",
    "as_svg",
    "by_confidence",
    "by_context",
    "by_distance",
    "by_divergence",
    "by_parameters",
    "by_rollout",
    "by_setting",
    "by_species",
    "by_task",
    "by_text_read",
    "by_train_tokens",
    "by_training",
    "by_training_flops",
    "by_year",
    "ladder",
    "quality_and_cost",
    "state_graph",
    "title_of",
    "wins",
    "write_svg",
]
