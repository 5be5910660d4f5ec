"""Pruning of whole channels: filter pruning and Early-Bird tickets."""

from supermask.baselines.channel_pruning.removable import RemovableChannels, removable_channels, remove_channels

__all__ = ["RemovableChannels", "removable_channels", "remove_channels"]
