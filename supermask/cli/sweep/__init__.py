"""`supermask sweep`: a grid of runs on a cluster or on this machine."""
