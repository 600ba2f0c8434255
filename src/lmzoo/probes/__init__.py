"""Experiments that show what a fitted model does inside."""
