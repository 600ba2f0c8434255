"""`python -m lmzoo` is the `lmzoo` command."""

from lmzoo.cli import main

if __name__ == "__main__":
    main()
