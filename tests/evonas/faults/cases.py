"""What the tests of faults share: how long something is gone, and the end of a driver.

EVONAS_FAULT_SECONDS=30 pytest tests/evonas/faults    # each database is gone as long as that
"""

import os
import subprocess

from tests.evonas.driver_process import GIVE_UP_SECONDS

SECONDS = float(os.environ.get("EVONAS_FAULT_SECONDS", "2"))


def ended(driver: subprocess.Popen[str], status: int = 0) -> str:
    """The output of a process that ended with that exit status."""
    _, errors = driver.communicate(timeout=GIVE_UP_SECONDS + SECONDS)
    assert "Traceback" not in errors
    assert driver.returncode == status, errors
    return errors
