"""Numbers, sizes and times as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from microcalibrate.cli.flags import in_flags
from microcalibrate.figures.plotting import amount, readable
from microcalibrate.figures.plotting import count as count  # one of the words of the page too

_FLAG = re.compile(r"`?--(no-)?([a-z][a-z0-9-]*)`?")
_SIGNS = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&@])")

# Below each, the number of seconds is told in this unit.
_UNITS = ((90, 1, "second"), (90 * 60, 60, "minute"), (36 * 3600, 3600, "hour"))


def size(n_bytes: float) -> str:
    """Bytes in the unit that fits.

    Examples:
        >>> size(812), size(1_234_567), size(5.2e9)
        ('812 bytes', '1.2 MB', '5.2 GB')
    """
    for unit, word in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:,.1f} {word}"
    return f"{n_bytes:,.0f} bytes"


def span(seconds: float) -> str:
    """A time span in the unit that fits.

    Examples:
        >>> span(1.2), span(61), span(400), span(90_000)
        ('1 second', '61 seconds', '7 minutes', '25 hours')
    """
    for limit, length, word in _UNITS:
        if seconds < limit:
            count = round(seconds / length)
            return f"{count} {word}{'' if count == 1 else 's'}"
    return f"{round(seconds / 86400)} days"


def moment(when: datetime | None) -> str:
    """A moment in the time of this machine; a dash where there is none.

    Examples:
        >>> moment(None)
        '–'
    """
    if when is None:
        return "–"
    local = (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone()
    return f"{local.day} {local:%b %H:%M}"


def label(text: object) -> str:
    r"""A user's text for the label of a widget, where Streamlit would read it as Markdown.

    Examples:
        >>> print(label("a_b :smile: <img>"))
        a\_b \:smile\: \<img\>
    """
    return _SIGNS.sub(r"\\\1", readable(text))


def figure(value: float) -> str:
    """A total with the digits that count, and its thousands apart.

    Examples:
        >>> figure(1234567.8912), figure(-0.25), figure(2e13)
        ('1,234,568', '−0.25', '20 trillion')
    """
    size = abs(value)
    if 1000 <= size < 1e12:
        return f"{'−' if value < 0 else ''}{size:,.0f}"
    return amount(value)


def of_the_page(text: str) -> str:
    """A message of the library in the words of the page.

    Examples:
        >>> of_the_page("Raise lambda_max, or flag them with flag_dominating=True.")
        'Raise “Lambda max”, or flag them with “Flag dominating”.'
    """

    def label(flag: re.Match[str]) -> str:
        name = flag[2].replace("-", " ").capitalize()
        return f"“{name}” off" if flag[1] else f"“{name}”"

    return _FLAG.sub(label, in_flags(text)).replace("`", "")
