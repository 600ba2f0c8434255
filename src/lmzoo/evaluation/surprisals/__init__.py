"""Surprisals of words and tokens as tables, for studies of reading and other experiments."""

from lmzoo.evaluation.surprisals.measure import stream_surprisals, surprisal_table
from lmzoo.evaluation.surprisals.table import SurprisalTable

__all__ = ["SurprisalTable", "stream_surprisals", "surprisal_table"]
