"""Measurements of trained models on a text: records, scores of each token, statistics, costs, ensembles and scaling laws."""
