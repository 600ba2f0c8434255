"""One file a command: parameters in, a call of the library, a table or JSON out."""
