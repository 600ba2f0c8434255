"""Experiments that fit many models and compare them: one run folder, one job a model, one page."""
