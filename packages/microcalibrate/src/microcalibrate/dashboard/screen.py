"""A screen as a value: what it is called, where it is found, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from microcalibrate.dashboard.context import Context


@dataclass(frozen=True)
class Screen:
    """One entry of the navigation.

    A screen is a file in `screens/` with one of these in it, named in `screens.SCREENS`.

    Attributes:
        title: In the navigation and above the screen.
        icon: Of Streamlit's Material symbols, such as ":material/table:".
        url: Its path, without a slash.
        lead: One sentence that stands below the title.
        render: Draws it.
        group: Heading in the navigation under which it stands.
    """

    title: str
    icon: str
    url: str
    lead: str
    render: Callable[[Context], None]
    group: str
