"""Training of networks: batches, optimizers, the training loop, several processes, and the memory needed."""
