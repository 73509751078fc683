"""Before a launch: what evonas doctor finds, and that nothing of it stays."""

import fcntl
import json
from pathlib import Path
from typing import Any

import pytest

from evonas.config_file import parse_config
from evonas.studies import doctor as module
from evonas.studies.doctor import Finding, doctor
from evonas.workers.pool import InProcessPool


def findings(tiny: dict[str, Any], folder: Path) -> dict[str, Finding]:
    return {each.what: each for each in doctor(parse_config(json.dumps(tiny)), folder)}


def test_all_is_well_and_nothing_stays(tmp_path: Path, tiny: dict[str, Any]) -> None:
    found = findings(tiny, tmp_path / "results")
    assert list(found) == ["config", "data", "store", "disk", "workers", "node", "smoke", "cost"]
    assert {each.result for each in found.values()} == {"ok"}
    assert "40 births on resnet, mobilenet" in found["config"].text
    assert "BN-ReLU after 6 steps: resnet 0." in found["smoke"].text
    assert "worker hours" in found["cost"].text
    assert list(tmp_path.iterdir()) == []


def test_a_shared_store_is_tried_where_it_is(server_database: str, tmp_path: Path, tiny: dict[str, Any]) -> None:
    found = findings({**tiny, "store": {"url": server_database}}, tmp_path)
    assert found["store"].result == "ok"
    assert "written and locked" in found["store"].text
    unreachable = {**tiny, "store": {"url": "postgresql://127.0.0.1:1/none"}}
    assert findings(unreachable, tmp_path)["store"].result == "failed"


def test_a_url_that_is_none_is_told_and_the_rest_is_examined(tmp_path: Path, tiny: dict[str, Any]) -> None:
    found = findings({**tiny, "store": {"url": "mysql://x/y"}}, tmp_path)
    assert (found["store"].result, found["smoke"].result) == ("failed", "ok")
    assert "disk" not in found


def test_the_disk_is_that_of_the_database(tmp_path: Path, tiny: dict[str, Any]) -> None:
    found = findings({**tiny, "store": {"url": f"sqlite:///{tmp_path}/all.db"}}, Path("/nowhere"))
    assert found["store"].result == "ok"
    assert f"free in {tmp_path};" in found["disk"].text


def test_workers_that_a_cluster_does_not_hold_yet_are_a_warning(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InProcessPool, "holds", 0)
    found = findings(tiny, tmp_path)
    assert found["workers"].result == "warning"
    assert "which holds 0 of them now" in found["workers"].text
    assert "on 1 worker" in found["cost"].text


def test_an_estimate_by_eager_steps_says_so_where_the_config_compiles(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMOKE_STEPS", 3)
    found = findings({**tiny, "execution": {"compile_from_steps": 4}}, tmp_path)
    assert "by eager steps, though this config compiles; training every birth" in found["cost"].text
    assert "by eager steps" not in findings(tiny, tmp_path)["cost"].text


def test_absent_data_end_the_examination(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["data"] |= {"source": "folder", "path": str(tmp_path / "nowhere")}
    found = findings(tiny, tmp_path)
    assert (list(found), found["data"].result) == (["config", "data"], "failed")


def test_a_lock_that_keeps_nobody_out_is_found(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    found = findings(tiny, tmp_path)["store"]
    assert (found.result, "does not keep a second driver out" in found.text) == ("failed", True)


def test_sqlite_on_a_network_file_system_is_a_warning(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_file_system", lambda path: "nfs4")
    assert findings(tiny, tmp_path)["store"].result == "warning"
    monkeypatch.undo()
    assert module._file_system(Path("/proc/self")) == "proc"


def test_a_node_of_other_versions_or_images_fails(
    tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nodes(pool: InProcessPool, look: Any, *arguments: Any) -> list[Any]:
        mine = look(*arguments)
        return [{**mine, "host": "a", "torch": "1.0"}, {**mine, "host": "b", "images": "none"}, "c: no evonas"]

    monkeypatch.setattr(InProcessPool, "on_every_node", nodes)
    told = [each for each in doctor(parse_config(json.dumps(tiny)), tmp_path) if each.what == "node"]
    assert [each.result for each in told] == ["failed"] * 3
    assert "a: torch 1.0, here " in told[0].text
    assert "b: other images: none" in told[1].text
    assert told[2].text == "c: no evonas"


def test_a_time_limit_that_no_layer_keeps_fails(tmp_path: Path, tiny: dict[str, Any]) -> None:
    tiny["workers"]["time_limit_seconds"] = 1e-4
    assert findings(tiny, tmp_path)["time limit"].result == "failed"
