"""The launch files of configs/clusters, as far as a machine without a cluster can check them; a search as a Ray job."""

import json
import os
import re
import shlex
import subprocess
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import evonas
from evonas.search_space.space import PAPER_PRIMITIVES
from evonas.store.database import Database
from evonas.studies.replay import replay
from tests.conftest import ROOT
from tests.evonas.driver_process import EVONAS, GIVE_UP_SECONDS, written
from tests.workers import nodes_process

FOLDER = ROOT / "configs" / "clusters"


def loaded(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / name).read_text()))


@pytest.mark.parametrize("name", ["aws.yaml", "onprem.yaml"])
def test_rays_own_schema_accepts_the_files_of_ray_up(name: str) -> None:
    schema = json.loads((files("ray.autoscaler") / "ray-schema.json").read_text())
    config = loaded(name)
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**config, "max_wokers": 1}, schema)  # it is one that refuses
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert commands[0] == "ray stop"
    assert "--address=$RAY_HEAD_IP:6379" in config["worker_start_ray_commands"][1]


def test_the_workers_of_the_kubernetes_job_ask_for_what_they_are_limited_to() -> None:
    job = loaded("kuberay.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    groups = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    for group in (job["spec"]["rayClusterSpec"]["headGroupSpec"], *groups):
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
    assert groups[0]["minReplicas"] <= groups[0]["replicas"] <= groups[0]["maxReplicas"]


def test_the_kubernetes_jobs_head_knows_the_database(tmp_path: Path) -> None:
    """KubeRay's submitter, which does not, gives the entrypoint to its shell, and `ray job submit` joins it again."""
    entrypoint = loaded("kuberay.yaml")["spec"]["entrypoint"]
    bare = {"PATH": os.environ["PATH"]}
    told = subprocess.run(["bash", "-c", f"printf '%s\\n' {entrypoint}"], env=bare, capture_output=True, text=True)
    (tmp_path / "evonas").write_text("#!/bin/bash\nprintf '%s\\n' \"$@\"\n")
    (tmp_path / "evonas").chmod(0o755)
    head = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "STORE_URL": "postgresql://a@b/c"}
    command = shlex.join(told.stdout.splitlines())
    asked = subprocess.run(["bash", "-c", command], env=head, capture_output=True, text=True, check=True)
    assert asked.stdout.splitlines()[:2] == ["search", "/config/my.yaml"]
    assert "store.url=postgresql://a@b/c" in asked.stdout.splitlines()


FAKE = """#!/bin/bash
echo "$(basename "$0") $*" >> "$CALLS"
case $(basename "$0") in
  scontrol) printf 'n1\\nn2\\n' ;;
  srun) [[ $* == *hostname* ]] && echo 10.0.0.1 10.0.0.2 ;;
  evonas) until [[ $(grep -c 'ray start' "$CALLS") == 2 ]]; do command -p sleep 0.05; done ;;
esac
exit 0
"""


@pytest.mark.parametrize(
    ("arguments", "driven"),
    [
        (
            ("my.yaml", "--run", "/shared/a"),
            "evonas search my.yaml --set cluster.address=10.0.0.1:6379 --run /shared/a",
        ),
        (("resume", "/shared/a"), "evonas resume /shared/a"),
    ],
)
def test_the_slurm_script_starts_a_node_everywhere_and_the_driver(
    tmp_path: Path, arguments: tuple[str, ...], driven: str
) -> None:
    """With programs in Slurm's place that write down how they are called; the driver's waits for the nodes'."""
    for name in ("scontrol", "srun", "evonas", "sleep"):
        path = tmp_path / name
        path.write_text(FAKE)
        path.chmod(0o755)
    calls = tmp_path / "calls"
    slurm = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_CPUS_PER_TASK": "16", "CALLS": str(calls)}
    environment = {**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([FOLDER / "slurm.sh", *arguments], env=environment, check=True, timeout=60)
    told = calls.read_text().splitlines()
    nodes = [
        re.sub(r".*--nodelist=(\S+) ray start --block --num-cpus=16 ", r"\1 ", each) for each in told if "ray" in each
    ]
    assert sorted(nodes) == ["n1 --head --port=6379", "n2 --address=10.0.0.1:6379"]
    assert driven in told


NETWORKS = """\
from torch import nn

def small(norm_act, num_classes, in_channels):
    layers = nn.Conv2d(in_channels, 8, 3, 2), norm_act(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(8, num_classes))
"""
OPS = "def half(a):\n    return a / 2\n"
GATES = """\
from evonas.workers.gates.base import NetworkGate

class Half(NetworkGate):
    def measure(self, networks, proxy):
        return self.measured(networks.initial_pass(proxy, 4).logits_std, 1e9, passed=True, proxy=proxy)
"""


@pytest.mark.long
@pytest.mark.alone
def test_a_search_is_sent_to_a_cluster_and_followed_to_its_end(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray.dashboard.optional_deps", reason="no dashboard is installed: pip install 'ray[default]'")
    for name, value in nodes_process.SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(EVONAS).parent}:{os.environ['PATH']}")  # of the cluster's machines
    port = nodes_process.free_port()
    node, _ = nodes_process.head("--include-dashboard=true", f"--dashboard-port={port}", "--dashboard-host=127.0.0.1")
    for name, text in {"my_networks": NETWORKS, "my_ops": OPS, "my_gates": GATES}.items():  # sent along
        (tmp_path / f"{name}.py").write_text(text)
    tiny["proxies"] = {"own": {"architecture": "my_networks:small", "groups": 2}}
    tiny["space"] = {"primitives": [*PAPER_PRIMITIVES, "my_ops:half"]}
    tiny["gates"].insert(2, {"my_gates:Half": {}})
    folder, config = tmp_path / "run", written(tmp_path, tiny | {"cluster": {"address": "local"}})
    command = [EVONAS, "submit", config, "--address", f"http://127.0.0.1:{port}", "--run", str(folder), "--follow"]
    try:
        give_up = time.monotonic() + GIVE_UP_SECONDS
        while (done := subprocess.run(command, capture_output=True, text=True, timeout=200)).returncode == 2:
            assert "the search cannot be sent there" in done.stderr
            assert time.monotonic() < give_up, done.stderr  # the dashboard comes after the head
            time.sleep(1.0)
        failed = subprocess.run(command, capture_output=True, text=True, timeout=200)  # the folder is there now
    finally:
        nodes_process.stop(node)
    assert done.returncode == 0, done.stderr
    assert f"Run: {folder}" in done.stdout
    assert evonas.open_run(folder).finished
    monkeypatch.chdir(tmp_path)  # the job's own folder is gone
    assert replay(Database.open(folder).reader()) == []
    assert list(evonas.open_run(folder).config.plugins) == ["my_ops", "my_networks", "my_gates"]
    assert failed.returncode == 1
    assert f"--run {folder}: exists" in failed.stdout
    assert "FAILED" in failed.stderr.splitlines()[-1]
