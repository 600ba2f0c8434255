"""The commands of the `lmzoo` program, one per module. Each calls the library and prints a table or JSON."""
