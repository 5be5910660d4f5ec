"""Published tables and figures, measured again: one file for each."""
