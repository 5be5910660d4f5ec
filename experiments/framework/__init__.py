"""What an experiment is, how its runs are carried out, and how they are reported."""
