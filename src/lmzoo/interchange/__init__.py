"""Exchange with other programs: ARPA files, folders of Hugging Face, and models behind an HTTP interface."""
