"""The page is served to this machine alone, and refuses what others would have it do."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection

import psutil
import pytest

pytest.importorskip("streamlit")

from typer.testing import CliRunner

from microcalibrate.cli import app, dashboard
from microcalibrate.cli.page_server import PageServer, allowed_hosts, theme
from microcalibrate.errors import InvalidOption


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Port and process of a page that runs as the command line starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("served")
    words = ["dashboard", "--no-browser", "--port", str(number), "--workspace", str(folder / "w")]
    with (folder / "output").open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "microcalibrate", *words], stdout=output, stderr=output
        )
        try:
            for _ in range(300):
                assert server.poll() is None, (folder / "output").read_text()
                try:
                    if answer(number, "GET", "/_stcore/health").status == 200:
                        break
                except OSError:
                    time.sleep(0.2)
            yield number, server
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture(scope="module")
def port(server):
    return server[0]


def answer(port, method, path, headers=None, body=None):
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body=body, headers=headers or {})
    response = connection.getresponse()
    response.text = response.read()
    connection.close()
    return response


def handshake(port, **headers):
    """Status with which the server answers to a request for a WebSocket."""
    given = {
        "Host": f"127.0.0.1:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
    } | headers
    lines = [f"{name}: {value}" for name, value in given.items()]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall("\r\n".join(["GET /_stcore/stream HTTP/1.1", *lines, "", ""]).encode())
        return int(connection.recv(64).split()[1])


def test_only_this_machine_is_listened_to(server):
    """By what the system says of the server's sockets."""
    port, process = server

    listening = {
        each.laddr
        for each in psutil.Process(process.pid).net_connections(kind="tcp")
        if each.status == psutil.CONN_LISTEN
    }

    assert listening == {("127.0.0.1", port)}


def test_the_page_opens_a_socket_for_itself(port):
    assert handshake(port, Origin=f"http://127.0.0.1:{port}") == 101
    assert handshake(port, Host=f"localhost:{port}", Origin=f"http://localhost:{port}") == 101


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "attacker.example"},
        {"Host": "attacker.example", "Origin": "http://attacker.example"},
        {"Origin": "http://attacker.example"},
        {"Origin": "https://127.0.0.1.attacker.example"},
    ],
    ids=["host", "host and origin alike", "origin", "origin that begins like ours"],
)
def test_a_forged_host_or_a_foreign_origin_gets_no_socket(port, headers):
    assert handshake(port, **headers) == 403


def test_an_upload_without_the_token_of_the_page_is_refused(port):
    boundary = "x"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        f"a\r\n--{boundary}--\r\n"
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}

    refused = answer(port, "PUT", "/_stcore/upload_file/session/file", headers, body)

    assert refused.status == 403
    assert b"XSRF" in refused.text


def test_no_other_page_may_read_an_answer(port):
    given = answer(port, "GET", "/_stcore/health", {"Origin": "http://attacker.example"})

    assert given.getheader("Access-Control-Allow-Origin") is None


def test_no_programme_can_drive_the_page(port):
    headers = {"Content-Type": "application/json"}

    assert answer(port, "POST", "/_stcore/agent/interact", headers, "{}").status in (403, 404)


# --- Options --------------------------------------------------------------------------------------


def test_usage_is_not_reported_and_protection_is_on():
    options = PageServer().options()

    assert options["browser.gatherUsageStats"] is False
    assert options["server.enableXsrfProtection"] is True
    assert options["server.enableCORS"] is True
    assert options["server.address"] == "127.0.0.1"
    assert options["server.maxUploadSize"] == 2048
    # Streamlit's own CSV files of tables would not guard spreadsheets from formulas.
    assert options["client.disableDataExport"] is True
    assert set(options["server.allowedHosts"]) == {"localhost", "127.0.0.1", "::1"}


def test_every_option_is_one_of_the_installed_streamlit():
    from streamlit import config

    known = set(config.get_config_options())

    assert set(PageServer(port=8600).options()) <= known


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "example.org", "::"])
def test_another_address_needs_the_word_of_the_user(host):
    with pytest.raises(InvalidOption, match=f"--host {host} .* --allow-remote"):
        PageServer(host).check()
    PageServer(host, allow_remote=True).check()


def test_the_command_refuses_another_address_before_anything_starts(monkeypatch, tmp_path):
    monkeypatch.setattr(dashboard, "_serve", lambda _: pytest.fail("served"))
    words = ["dashboard", "--workspace", str(tmp_path / "w"), "--host", "0.0.0.0"]

    refused = CliRunner().invoke(app, words)

    assert refused.exit_code == 2
    assert "--allow-remote" in refused.stderr
    assert not (tmp_path / "w").exists()


def test_a_page_for_others_still_knows_its_names():
    hosts = allowed_hosts("0.0.0.0")

    assert "*" not in hosts
    assert "0.0.0.0" not in hosts
    assert socket.gethostname() in hosts or len(hosts) > 3


def test_streamlit_that_is_missing_is_named_with_the_way_to_it(monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "streamlit" else found(name)
    )

    refused = CliRunner().invoke(app, ["dashboard"])

    assert refused.exit_code == 1
    said = " ".join(refused.stderr.split())
    assert "pip install 'microcalibrate[dashboard]'" in said


def test_a_foreign_origin_makes_no_request_to_another_machine(monkeypatch):
    import requests
    from streamlit import net_util
    from streamlit.web.server import server_util

    from microcalibrate.dashboard.__main__ import stay_on_this_machine

    monkeypatch.setattr(net_util, "get_external_ip", net_util.get_external_ip)
    monkeypatch.setattr(requests, "get", lambda *_, **__: pytest.fail("asked another machine"))
    stay_on_this_machine()

    assert not server_util.is_url_from_allowed_origins("http://attacker.example")


def test_the_colours_are_those_of_figures_and_reports():
    from l0.reports.palette import AFTER, DARK, PAPER

    options = theme()

    assert options["theme.light.primaryColor"] == AFTER
    assert options["theme.dark.backgroundColor"] == DARK[PAPER]


# --- Files ----------------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch):
    """Commands that would be served."""
    commands = []
    monkeypatch.setattr(dashboard, "_serve", commands.append)
    return commands


def test_tables_become_data_sets_and_runs_and_logs_are_opened(served, tmp_path):
    from microcalibrate import Calibration
    from microcalibrate.jobs import Workspace

    table = tmp_path / "people.csv"
    table.write_text("id,weight\n1,2\n2,3\n")
    log = tmp_path / "log.csv"
    log.write_text("target,true_value,estimate\npeople,4,5\n")
    calibration = Calibration([1.0, 1.0], [4.0], [[1.0], [1.0]])
    calibration.calibrate()
    run = calibration.result.save(tmp_path / "run")
    workspace = tmp_path / "w"
    words = [str(table), str(run), "--log", str(log), "--workspace", str(workspace)]

    done = CliRunner().invoke(app, ["dashboard", *words, "--no-browser"])

    assert done.exit_code == 0, done.output
    assert [each.name for each in Workspace(workspace).datasets()] == ["people.csv"]
    handed_on = served[0][served[0].index("--") + 1 :]
    assert handed_on[handed_on.index("--run") + 1] == str(run)
    assert handed_on[handed_on.index("--log") + 1] == str(log)
    _end(workspace)


@pytest.mark.parametrize("named", ["missing.csv", "notes.txt"])
def test_a_file_that_cannot_be_opened_is_said_before_the_page_starts(served, tmp_path, named):
    (tmp_path / "notes.txt").write_text("x")
    words = ["dashboard", str(tmp_path / named), "--workspace", str(tmp_path / "w")]

    refused = CliRunner().invoke(app, words)

    assert refused.exit_code == 1
    assert named in refused.stderr
    assert not served


def _end(workspace):
    """Wait until no run of a workspace works any more."""
    from microcalibrate.jobs import Workspace

    for _ in range(600):
        if all(run.state.is_over for run in Workspace(workspace).runs()):
            return
        time.sleep(0.1)
    pytest.fail("a run does not end")
