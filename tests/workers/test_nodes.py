"""Nodes that join and leave while jobs run."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two nodes need two cores")
def test_nodes_join_and_leave_and_every_job_is_answered_until_the_head_is_lost() -> None:
    """What the killed node's worker had is tried again on the node that is left."""
    command = [sys.executable, "-m", "tests.workers.nodes_process"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "alone": 1,
        "joined": 2,
        "asked": 2,
        "short": [["Fitness", 1], ["Fitness", 1]],
        "long": [["Fitness", 1], ["Fitness", 2]],
        "left": 1,
        "lost": "the cluster's head, HEAD, does not answer any more ([Errno 111] Connection refused)",
    }
