"""One module a source, named like its notebook and its claims file."""
