"""Masks and what belongs to their kept weights as few bytes: the same on every machine, and refused when impossible."""

from supermask.ticket.coding.coder_context import SideInformation, make_side_information
from supermask.ticket.coding.masks import decode_mask, encode_mask
from supermask.ticket.coding.symbols import decode_symbols, encode_symbols

__all__ = [
    "SideInformation",
    "decode_mask",
    "decode_symbols",
    "encode_mask",
    "encode_symbols",
    "make_side_information",
]
