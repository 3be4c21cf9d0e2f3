"""What a GPU is measured for: an experiment per file, declared in the file of its name."""
