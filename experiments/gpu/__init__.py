"""Everything that a machine with a GPU can show in minutes: `python -m experiments gpu`.

Nothing here needs tyro, pulp, highspy or submitit, so that a bare machine with PyTorch and Triton can run it.
"""
