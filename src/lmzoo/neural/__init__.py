"""Neural networks as language models: layers, training, and reading one token at a time.

The modules on which this package depends, such as `lmzoo.language_model` and `lmzoo.stream`, do not import torch.
"""
