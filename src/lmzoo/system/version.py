"""The version of lmzoo."""

__version__ = "0.1.0"
