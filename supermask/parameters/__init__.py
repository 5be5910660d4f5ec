"""What a model is made of: its parameters with their owners, kinds, roles and fans."""
