"""Measures fitted models on a text: records, per-token scores, statistics, costs, ensembles and scaling laws."""
