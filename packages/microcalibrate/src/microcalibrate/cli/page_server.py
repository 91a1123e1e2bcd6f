"""The command that starts the page: on this machine only, and silent towards every other.

A flag is given for each option of Streamlit that keeps the page private, so that no configuration
file or environment variable of the user's can turn one of them off.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l0.reports.palette import AFTER, BEFORE, DARK, FONT, GRID, INK, MUTED, PAPER
from microcalibrate.errors import InvalidOption

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MEGABYTES_A_FILE = 2048

# Panels and fields stand out from the page by this much only.
PANEL = {"light": "#f5f7f9", "dark": "#1e2327"}
CODE_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace"


@dataclass(frozen=True)
class PageServer:
    """How the page is to be served.

    Attributes:
        host: Address to listen on.
        port: Port, or None for the first free one from 8501 on.
        allow_remote: Whether other machines may be let in.
        open_browser: Whether to show the page at once.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    allow_remote: bool = False
    open_browser: bool = True

    @property
    def is_remote(self) -> bool:
        """Whether other machines can reach the page."""
        return not is_loopback(self.host)

    def check(self) -> None:
        """Refuse an address that other machines can reach, unless that is wanted.

        Raises:
            InvalidOption: If they can, and it is not.
        """
        if self.is_remote and not self.allow_remote:
            raise InvalidOption(
                f"--host {self.host} would let other machines see your data: the page asks for no "
                "password. Leave --host out, or add --allow-remote if that is what you want."
            )

    def options(self) -> dict[str, Any]:
        """Options of Streamlit, by name."""
        private = {
            "server.address": self.host,
            "server.allowedHosts": allowed_hosts(self.host),
            "server.enableXsrfProtection": True,
            "server.xsrfCookieSameSite": "strict",
            "server.enableCORS": True,
            "server.corsAllowedOrigins": [f"http://{LOOPBACK[0]}"],
            "server.enableAgentApi": False,
            "server.enableStaticServing": False,
            "server.trustedUserHeaders": "{}",
            "server.baseUrlPath": "",
            "browser.gatherUsageStats": False,
            # Its own CSV files of tables would not guard spreadsheets from formulas; ours do.
            "client.disableDataExport": True,
            "server.maxUploadSize": MEGABYTES_A_FILE,
        }
        calm = {
            "server.headless": not self.open_browser,
            "server.showEmailPrompt": False,
            "server.fileWatcherType": "none",
            "server.runOnSave": False,
            "global.developmentMode": False,
            "client.toolbarMode": "minimal",
            "client.showErrorDetails": "none",
            "client.showErrorLinks": False,
            "logger.level": "warning",
        }
        port = {} if self.port is None else {"server.port": self.port}
        return private | calm | port | theme()

    def command(self, app: Path, arguments: Sequence[str]) -> list[str]:
        """The command that serves the page.

        Args:
            app: Script of the page.
            arguments: For the script.
        """
        flags = list(_flags(self.options()))
        server = [sys.executable, "-m", "microcalibrate.dashboard"]
        return [*server, "run", str(app), *flags, "--", *arguments]


def is_loopback(host: str) -> bool:
    """Whether an address belongs to this machine alone.

    Examples:
        >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("::1")
        (True, True, True)
        >>> is_loopback("0.0.0.0"), is_loopback("example.org")
        (False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def allowed_hosts(host: str) -> list[str]:
    """Names by which the page may be asked for; any other is refused, whoever it resolves to us."""
    if is_loopback(host):
        return list(dict.fromkeys([*LOOPBACK, host]))
    try:
        name, others, addresses = socket.gethostbyname_ex(socket.gethostname())
    except OSError:
        name, others, addresses = socket.gethostname(), [], []
    every = [*LOOPBACK, host, name, *others, *addresses]
    return [each for each in dict.fromkeys(every) if each not in ("0.0.0.0", "::", "")]


def theme() -> dict[str, Any]:
    """Colours and type of figures and reports, as options of Streamlit."""
    common = {
        "theme.font": FONT,
        "theme.headingFont": FONT,
        "theme.codeFont": CODE_FONT,
        "theme.baseFontSize": 15,
        "theme.baseRadius": "8px",
        "theme.buttonRadius": "8px",
        "theme.showWidgetBorder": True,
        "theme.showSidebarBorder": True,
        "theme.metricValueFontSize": "26px",
    }
    return common | _shades("light", {}) | _shades("dark", DARK)


def _shades(name: str, themed: Mapping[str, str]) -> dict[str, Any]:
    def shade(colour: str) -> str:
        return themed.get(colour, colour)

    return {
        f"theme.{name}.primaryColor": shade(AFTER),
        f"theme.{name}.linkColor": shade(AFTER),
        f"theme.{name}.backgroundColor": shade(PAPER),
        f"theme.{name}.secondaryBackgroundColor": PANEL[name],
        f"theme.{name}.textColor": shade(INK),
        f"theme.{name}.borderColor": shade(GRID),
        f"theme.{name}.dataframeBorderColor": shade(GRID),
        f"theme.{name}.dataframeHeaderBackgroundColor": PANEL[name],
        f"theme.{name}.dataframeHeaderTextColor": shade(MUTED),
        f"theme.{name}.grayColor": shade(MUTED),
        f"theme.{name}.orangeColor": BEFORE,
        f"theme.{name}.codeBackgroundColor": PANEL[name],
        f"theme.{name}.codeTextColor": shade(INK),
        f"theme.{name}.sidebar.backgroundColor": PANEL[name],
        f"theme.{name}.sidebar.secondaryBackgroundColor": shade(PAPER),
    }


def _flags(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, list):
            for each in value:
                yield from (f"--{name}", str(each))
        else:
            yield from (f"--{name}", str(value).lower() if isinstance(value, bool) else str(value))
