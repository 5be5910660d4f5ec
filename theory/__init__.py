"""Constructions that prune one fixed random network to a given target, with a certificate."""
