"""The error that a user of the command sees as one line."""

from __future__ import annotations


class InputError(Exception):
    """Something the user gave cannot be used; the message is one line and says what and why."""
