"""Experiments that train several models and compare them; each experiment writes its results to a run folder."""
