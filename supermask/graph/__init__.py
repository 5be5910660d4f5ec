"""The one reading of a network as a graph: its units, who reads them, which go together, and their removal."""

from supermask.graph.channels import ChannelGraph, Follower, Layer
from supermask.graph.cost import Cost, cost_of, largest_activation
from supermask.graph.liveness import live_units
from supermask.graph.reader import channel_graph
from supermask.graph.sparsity import Savings, savings_of

__all__ = [
    "ChannelGraph",
    "Cost",
    "Follower",
    "Layer",
    "Savings",
    "channel_graph",
    "cost_of",
    "largest_activation",
    "live_units",
    "savings_of",
]
