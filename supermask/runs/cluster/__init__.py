"""Runs as jobs of submitit: in the queue of Slurm, or in processes of this machine."""
