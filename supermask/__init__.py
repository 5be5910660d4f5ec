"""supermask: find, judge and keep strong lottery tickets."""
