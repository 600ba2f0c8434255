"""From token streams to counted n-grams: the interface, lmzoo's implementation by sorting, and its memory."""
