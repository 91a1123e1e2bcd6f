"""What a screen works with: the workspace, what was opened beside it, and ways to other screens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import streamlit as st

from microcalibrate.dashboard import links, parts
from microcalibrate.dashboard.outcomes import Outcome, finished, uploaded_logs

if TYPE_CHECKING:
    from microcalibrate.jobs import Dataset, Workspace


@dataclass(frozen=True)
class Context:
    """What a screen is given.

    Attributes:
        workspace: Data sets and runs.
        opened: Results and logs that the command line named.
        is_remote: Whether other machines can reach the page.
        pages: Path of each screen to Streamlit's page.
    """

    workspace: Workspace
    opened: tuple[Outcome, ...] = ()
    is_remote: bool = False
    pages: Mapping[str, Any] = field(default_factory=dict)

    def go(self, url: str, **parameters: str) -> None:
        """Show another screen, or this one with other parameters."""
        st.switch_page(self.pages[url], query_params=parameters)

    def link(self, url: str, label: str, **parameters: str) -> None:
        """Show a link to another screen; the label is one of the page's own."""
        st.page_link(self.pages[url], label=label, query_params=parameters)

    def dataset(self) -> Dataset | None:
        """The data set that the reader works on, to be chosen from a list; None without any."""
        found = {each.id: each for each in self.workspace.datasets()}
        if not found:
            parts.empty(
                "No data set yet",
                "Upload a survey, or take the embedded one, on the Data screen.",
            )
            self.link("data", "Go to Data")
            return None
        names = {key: each.name for key, each in found.items()}
        if links.is_stale("dataset", names):
            parts.notice("Not here.", "The data set of this link is not in this workspace.")
        return found[links.choose("Data set", names, "dataset")]

    def outcomes(self, *kinds: str) -> list[Outcome]:
        """Results that can be looked at, newest first.

        Args:
            *kinds: Those wanted; all where none is named.
        """
        found = [*finished(self.workspace), *uploaded_logs(self.workspace), *self.opened]
        return [each for each in found if not kinds or each.kind in kinds]

    def outcome(self, *kinds: str, label: str = "Run", parameter: str = "run") -> Outcome | None:
        """The result that the reader looks at, with a list to choose another; None without any.

        Args:
            *kinds: Those that may be chosen.
            label: What is chosen.
            parameter: Its name in the address.
        """
        found = {each.id: each for each in self.outcomes(*kinds)}
        if not found:
            return None
        names = {key: each.name for key, each in found.items()}
        # A run of another kind is that of the screen the reader comes from.
        if links.is_stale(parameter, {each.id: each.name for each in self.outcomes()}):
            parts.notice(
                "Not here.",
                "The run of this link is not finished, or was deleted. Shown is another one.",
            )
        memory = " ".join((parameter, *kinds))
        return found[links.choose(label, names, parameter, memory=memory)]
