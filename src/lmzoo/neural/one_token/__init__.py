"""Fast generation on a CPU: networks that read one token at a time with compiled kernels instead of torch."""
