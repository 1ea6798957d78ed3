"""What can be wrong with what a peer sent.

WireError
    FrameTooLarge       the length prefix promises more than the limit
    MessageMalformed    the frame is no message: bad msgpack, a missing or mistyped field, a value out of bounds
"""


class WireError(Exception):
    """The peer broke the push protocol: the link ends, with this text as the reason."""


class FrameTooLarge(WireError):
    """A frame is longer than the receiver accepts."""


class MessageMalformed(WireError):
    """A frame is not a message of this protocol."""
