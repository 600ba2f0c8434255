"""Reads and writes models of other programs: ARPA files, Hugging Face folders."""
