"""Runs the `lmzoo` command for `python -m lmzoo`."""

from lmzoo.cli import main

if __name__ == "__main__":
    main()
