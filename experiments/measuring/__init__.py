"""What single experiments time and count: steps, selections, codes, layers."""
