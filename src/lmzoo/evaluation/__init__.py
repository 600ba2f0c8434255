"""Measurements of trained models: records, scores of each token, statistics, costs, ensembles and scaling laws."""
