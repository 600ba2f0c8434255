"""The language models: one file or package for each, with its idea, its code, and the function that creates it."""
