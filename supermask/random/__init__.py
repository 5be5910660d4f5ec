"""Random numbers that are the same on every machine: the stream, distributions, and weights regrown from a seed."""
