"""Neural networks as language models: layers, training, and reading one token at a time.

Nothing below this package imports torch.
"""
