"""The currency of every call: a request, a response, and their header fields."""

from fairlead.arriving import Arriving, Body, Coding, Upgraded
from fairlead.headers import Headers, HeaderTypes, Pair
from fairlead.request import IDEMPOTENT, Request
from fairlead.response import Response

__all__ = [
    "IDEMPOTENT",
    "Arriving",
    "Body",
    "Coding",
    "HeaderTypes",
    "Headers",
    "Pair",
    "Request",
    "Response",
    "Upgraded",
]
