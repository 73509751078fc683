"""The command: what it prints, and its end."""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import httpx

import evonas
from tests.evonas.driver_process import EVONAS
from tests.evonas.report.test_survey import OLD


def test_it_says_where_it_serves_and_ctrl_c_ends_it_at_once_with_one_line(tmp_path: Path) -> None:
    shutil.copy(OLD, tmp_path / "one.db")
    evonas.open_run(tmp_path / "one.db")  # upgrades it
    with subprocess.Popen(
        [EVONAS, "serve", str(tmp_path), "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        found = re.fullmatch(r"Serving 1 run at (http://127\.0\.0\.1:\d+) \(Ctrl-C ends it\)\.\n", said)
        assert found, said
        with httpx.Client() as client:  # whose connection stays open
            assert client.get(f"{found[1]}/api/runs").json()[0]["births"] == 30
            server.send_signal(signal.SIGINT)
            out, err = server.communicate(timeout=60)
    assert (out, err, server.returncode) == ("Ended.\n", "", 0)
