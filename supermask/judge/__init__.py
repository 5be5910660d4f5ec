"""What a ticket is worth: what tells a good one from a lucky one."""
