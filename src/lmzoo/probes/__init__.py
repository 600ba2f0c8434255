"""Probes: measurements of a trained model beyond its loss, such as its use of context and its gradients."""
