"""Random numbers that are the same on every machine, and the weights of a network regrown from a seed.

All of them start from `stream.philox(seed, *words)`, whose key is a hash of a seed and of words that say what the
numbers are for. `stream.Stream` makes the numbers of a ticket, its weights and scores, which are the same to the last
bit whatever the maths library. `keyed` makes orders, bytes and numpy generators for splits, batches and controls.
"""
