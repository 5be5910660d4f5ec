"""Masks and what belongs to their kept weights as few bytes: the same on every machine, and refused when impossible."""

from supermask.ticket.coding.layout import Hints, make_hints
from supermask.ticket.coding.masks import decode_mask, encode_mask
from supermask.ticket.coding.symbols import decode_symbols, encode_symbols

__all__ = ["Hints", "decode_mask", "decode_symbols", "encode_mask", "encode_symbols", "make_hints"]
