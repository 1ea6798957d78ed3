"""What an unquoted scalar of YAML means to kubectl: null, a truth value, a number, or text.

Source: resolve.go of go.yaml.in/yaml/v2, by which sigs.k8s.io/yaml reads; dates stay text there, and base 60 is none.
"""

import math
import re
from typing import Any, Final

_WORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_DATE: Final = re.compile(r"[0-9]{4}-.*", re.ASCII | re.DOTALL)
_INT: Final = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NO_NUMBER: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", re.ASCII)
_EXACT: Final = 2**53


def resolve(text: str) -> Any:
    """The value. Raises ValueError for what no JSON can hold."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789" or _DATE.fullmatch(text):
        return text
    if _NO_NUMBER.fullmatch(text):
        raise ValueError("is no number that JSON can hold: write quotes around text")
    plain = text.replace("_", "")
    if found := _INT.fullmatch(plain):
        sign, *digits = found.groups()
        value = next(int(each, base) for each, base in zip(digits, (16, 2, 8, 10), strict=True) if each)
        if value < 2**64:
            return -value if sign == "-" else value
    if _FLOAT.fullmatch(plain) and not math.isinf(number := float(plain)):
        return int(number) if number.is_integer() and abs(number) <= _EXACT else number
    return text
