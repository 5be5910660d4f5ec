"""The record board: the smallest accurate files by tiers of bytes, each with its seeds, its command and its referee."""
