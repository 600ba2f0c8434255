"""Reads and writes models in the formats of other programs: ARPA files and folders of Hugging Face."""
