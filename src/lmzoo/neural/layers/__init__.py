"""Layers and functions that several networks use: attention, recurrence, activations and cross-entropy."""
