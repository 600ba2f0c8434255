"""One file a species, each read from top to bottom: the idea, the functions, the class, the factory."""
