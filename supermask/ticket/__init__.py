"""The ticket, a seed and a mask: what it holds, its network, and its file."""

from supermask.ticket.ticket import Ticket

__all__ = ["Ticket"]
