"""The JSON API beside the records that the rest of evonas tells."""

import json
import shutil
import socket
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import evonas
from evonas.live.api import app
from evonas.live.places import Places
from evonas.live.serve import serve
from evonas.report import run_view
from evonas.run import Run
from evonas.search_space.errors import InputError
from evonas.store.choice import Choice, Chosen
from evonas.store.dump import jsonable
from evonas.store.records import Record, State, columns
from evonas.workers.outcome import Rejection
from tests.evonas.live.serving import serving
from tests.evonas.report.test_survey import OLD

HOSTILE = "<script>alert('1')</script>\""
LOCAL = "http://127.0.0.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 30 births whose database has a hostile host, and one that cannot be read."""
    made = tmp_path_factory.mktemp("runs")
    (made / "one").mkdir()
    shutil.copy(OLD, made / "one" / "run.db")
    evonas.open_run(made / "one")  # upgrades it
    with closing(sqlite3.connect(made / "one" / "run.db")) as database:
        database.execute("UPDATE evaluation SET host = ?", (HOSTILE,))
        database.commit()
    (made / "<img src=x>.db").write_text("no database")
    return made


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return evonas.open_run(folder / "one")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Any]:
    from starlette.testclient import TestClient

    with TestClient(app(Places([folder])), base_url=LOCAL) as opened:
        yield opened


def test_the_list_is_that_of_the_command_line(client: Any, folder: Path) -> None:
    told = client.get("/api/runs").json()
    assert [{k: v for k, v in each.items() if k != "key"} for each in told] == [
        jsonable(line.as_json()) for line in evonas.runs(folder)
    ]
    assert {each["key"]: each["state"] for each in told} == {"one": "finished", "<img src=x>.db": "unreadable"}


def test_a_run_is_its_status_and_its_config(client: Any, run: Run) -> None:
    told = client.get("/api/runs/one").json()
    status = jsonable(columns(run.status()))
    assert {name: told[name] for name in status} == status
    assert told["config"] == json.loads(run.config.model_dump_json())
    assert told["baseline"] == run.baseline()


CHOICES: list[tuple[dict[str, Any], Callable[[Run, Record], bool]]] = [
    ({}, lambda run, each: True),
    ({"state": "rejected"}, lambda run, each: each.state == State.REJECTED),
    ({"operator": "random"}, lambda run, each: each.operator == "random"),
    ({"operator": "redraw"}, lambda run, each: each.operator == "mutation" or "redraw" in each.operator.split("+")),
    ({"batch": "true"}, lambda run, each: each.batch_dependent),
    ({"op": ["add", "max"]}, lambda run, each: {"add", "max"} <= ops_of(run, each)),
    ({"proxy": "resnet", "at_least": 0.15}, lambda run, each: each.accuracy.get("resnet", 0.0) >= 0.15),
    ({"gate": "quality 3"}, lambda run, each: stopped_by(each) == "quality"),
    (
        {"gate": "depends_on_x", "batch": "false"},
        lambda run, each: stopped_by(each) == "depends_on_x" and not each.batch_dependent,
    ),
]  # fmt: skip


def ops_of(run: Run, record: Record) -> set[str]:
    return {node.op for node in run.graph(record.birth).canonical().nodes} if record.seq else set()


def stopped_by(record: Record) -> str | None:
    own = record.equal_to is None and isinstance(record.outcome, Rejection)
    return record.outcome.gate if own and isinstance(record.outcome, Rejection) else None


@pytest.mark.parametrize(
    ("query", "holds"), CHOICES, ids=lambda each: urlencode(each) if isinstance(each, dict) else ""
)
def test_a_filter_chooses_the_candidates_that_it_names(
    client: Any, run: Run, query: dict[str, Any], holds: Callable[[Run, Record], bool]
) -> None:
    every = run.candidates(range(1, 31))
    wanted = [each.birth for each in every if holds(run, each)]
    path = f"/api/runs/one/candidates?{urlencode(query, doseq=True)}&order=birth&descending=false"
    told = client.get(path).json()
    assert [each["birth"] for each in told["candidates"]] == wanted
    assert told["total"] == len(wanted)
    ends = client.get(f"/api/runs/one/ends?{urlencode(query, doseq=True)}").json()
    assert sum(each["count"] for each in ends) == len(wanted)
    spent = sum(each.seconds for each in every if each.birth in wanted)
    assert sum(each["seconds"] for each in ends) == pytest.approx(spent)


@pytest.mark.parametrize("descending", ["true", "false"])
@pytest.mark.parametrize("order", ["advantage", "seq", "seconds", "nodes", "mobilenet"])
def test_pages_follow_each_other_in_the_order_that_was_asked_for(
    client: Any, run: Run, order: str, descending: str
) -> None:
    def value(record: Record) -> float | None:
        if order == "mobilenet":
            return None if record.equal_to else record.accuracy.get(order)
        if order == "advantage":
            return None if record.equal_to else record.advantage
        return {"seq": record.seq, "seconds": record.seconds, "nodes": record.live_nodes}[order]

    sign = -1 if descending == "true" else 1
    every = run.candidates(range(1, 31))
    keys = {each.birth: value(each) for each in every}
    wanted = sorted(keys, key=lambda birth: (keys[birth] is None, sign * (keys[birth] or 0.0), birth))
    pages = [
        client.get(f"/api/runs/one/candidates?order={order}&descending={descending}&offset={at}&limit=7").json()
        for at in range(0, 35, 7)
    ]
    assert [each["birth"] for page in pages for each in page["candidates"]] == wanted


def test_the_ends_are_those_of_the_funnel(client: Any, run: Run) -> None:
    ends = Counter[str]()
    for each in client.get("/api/runs/one/ends").json():
        ends[each["end"]] += each["count"]
    funnel = run.funnel()
    assert {row.gate: row.stopped for row in funnel.rows if row.stopped} == {
        row.gate: ends[row.gate] for row in funnel.rows if ends[row.gate]
    }
    assert ends["inherited"] == funnel.inherited
    assert sum(ends.values()) == 30


def test_a_candidate_is_what_show_prints_and_its_card_has_its_picture(client: Any, run: Run) -> None:
    told = client.get("/api/runs/one/candidates/3").json()
    assert (told["formula"], told["state"]) == (run.candidate(3).formula, run.candidate(3).state)
    assert told["latex"]
    best = run.top(1)[0].birth
    card = client.get(f"/api/runs/one/candidates/{best}/card").json()
    assert card["picture"].startswith("<?xml") and "<math" in card["mathml"]
    assert list(map(int, card["ancestors"])) == [each.birth for each in run.lineage(best)]
    assert card["candidates"]["birth"] == [best]


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/api/runs/two", 404, "no run 'two'"),
        ("/api/runs/one/candidates/31", 404, "no birth 31; expected 1 to 30"),
        ("/api/runs/one/candidates/0/card", 404, "no birth 0"),
        ("/api/runs/one/candidates/99/layer.py", 404, "no birth 99"),
        ("/api/page?run=one&run=two", 404, "no run 'two'"),
        ("/api/runs/one/candidates?state=rejectd", 422, "state: unknown value 'rejectd'; did you mean 'rejected'?"),
        ("/api/runs/one/candidates?gate=speed", 422, "gate: unknown value 'speed'"),
        ("/api/runs/one/candidates?op=std_bwh", 422, "did you mean 'std_bhw'?"),
        ("/api/runs/one/candidates?operator=swop", 422, "did you mean 'swap'?"),
        ("/api/runs/one/candidates?proxy=vgg", 422, "proxy: unknown value 'vgg'"),
        ("/api/runs/one/candidates?proxy=resnet&at_least=2", 422, "at_least: expected 0 to 1"),
        ("/api/runs/one/candidates?order=size", 422, "order: unknown value 'size'"),
        ("/api/runs/one/candidates?limit=100000", 422, "limit: "),
        ("/api/runs/one/candidates?offset=-1", 422, "offset: "),
        ("/api/runs/one/candidates/x", 422, "birth: "),
        ("/api/page", 422, "run: "),
        ("/api/runs/%3Cimg%20src%3Dx%3E.db", 503, "not a database of evonas"),
        ("/docs", 404, "no path /docs"),
        ("/page.css", 404, "no path"),
        ("/..%2f..%2fetc/passwd", 404, "no path"),
        ("/api/runs/..%2f..%2fetc%2fpasswd", 404, "no "),
    ],
)  # fmt: skip
def test_a_wrong_request_is_answered_in_one_line(client: Any, path: str, status: int, error: str) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert error in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_it_is_read_only_and_tells_browsers_so(client: Any) -> None:
    for method in ("post", "put", "delete", "patch"):
        assert getattr(client, method)("/api/runs").status_code == 405
    headers = client.get("/").headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert client.get("/api/runs", headers={"Host": "evil.example:8420"}).status_code == 400
    assert client.get("/api/runs", headers={"Host": "localhost:1"}).status_code == 200


def test_openapi_describes_every_route_without_a_page_that_loads_scripts_from_elsewhere(client: Any) -> None:
    described = client.get("/api/openapi.json").json()
    assert {"/api/runs", "/api/runs/{name}/candidates", "/api/page"} <= set(described["paths"])
    assert all(each["get"]["summary"] for each in described["paths"].values())
    for path in ("/", "/view", "/evonas.js"):
        assert "//cdn" not in client.get(path).text


def test_an_answer_that_the_client_has_is_not_sent_again(client: Any) -> None:
    first = client.get("/api/page?run=one")
    again = client.get("/api/page?run=one", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = client.get("/api/page?run=one", headers={"Accept-Encoding": "identity"})
    assert plain.json() == first.json()
    assert "Content-Encoding" not in plain.headers


def test_the_page_is_the_report(client: Any, run: Run) -> None:
    told, report = client.get("/api/page?run=one").json()["runs"][0], run_view.document(run)["runs"][0]
    fetched = ("label", "panels", "ancestors")  # of a layer, when it is opened
    assert {k: v for k, v in told.items() if k not in ("key", *fetched)} == json.loads(
        json.dumps({k: v for k, v in report.items() if k not in fetched})
    )


def test_of_many_candidates_it_has_a_sample_with_the_best(
    client: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_view, "DRAWN", 10)
    monkeypatch.setattr("evonas.store.choice.FIRST", 2)
    view = run_view.document(run, Choice())["runs"][0]
    birth, weights = view["candidates"]["birth"], view["weights"]
    assert (view["births"], view["chosen"]) == (30, 30)
    assert [each for each, weight in zip(birth, weights, strict=True) if weight] == list(range(1, 31, 3))
    assert sum(weights) == 30
    rising, best = [], float("-inf")
    for each in sorted(run.candidates(range(1, 31)), key=lambda each: each.seq or 0):
        if each.equal_to is None and each.advantage is not None and each.advantage > best:
            rising.append(each.birth)
            best = each.advantage
    assert {*rising, 1, 2, run.reader.top(1)[0].birth} <= set(birth)
    assert set(Chosen(run.reader, Choice(state="rejected")).sample(3)) <= {
        each.birth for each in run.candidates(range(1, 31)) if each.state == State.REJECTED
    }


def test_a_change_is_seen_and_slow_clients_do_not_hold_up_the_writer(folder: Path, tmp_path: Path) -> None:
    """A transaction of a reader would keep the log of writes from being folded into the database."""
    import httpx

    shutil.copytree(folder / "one", tmp_path / "runs" / "one")
    with serving(tmp_path / "runs") as url, closing(sqlite3.connect(tmp_path / "runs" / "one" / "run.db")) as writer:
        before = httpx.get(f"{url}/api/runs/one").json()
        port = int(url.rpartition(":")[2])
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
        for each in slow:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            for path in (b"/plotly.js", b"/api/page?run=one"):
                each.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        assert all(each.recv(12) == b"HTTP/1.1 200" for each in slow)  # and no more of it
        httpx.get(f"{url}/api/page?run=one")
        writer.execute("PRAGMA busy_timeout = 0")
        writer.execute("UPDATE run SET name = 'one', writes = writes + 1")
        writer.execute("UPDATE candidate SET state = 'crashed' WHERE birth = 1")
        writer.commit()
        assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        for each in slow:
            each.close()
        for _ in range(100):
            now = httpx.get(f"{url}/api/runs/one").json()
            if now != before:
                break
        assert now["by_state"]["crashed"] == before["by_state"].get("crashed", 0) + 1


def test_what_cannot_be_served_is_one_line(folder: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"^127.0.0.1:{port}: cannot be listened at \(Address already in use"):
            serve(folder, port)
    with pytest.raises(InputError, match="no such folder"):
        serve(tmp_path / "nothing")
    with pytest.raises(InputError, match="not a database of evonas"):
        serve(folder / "<img src=x>.db")
    with pytest.raises(InputError, match="cannot be listened at"):
        serve(folder, 0, "no.such.host.invalid")
    with pytest.raises(InputError, match="port: expected 0 to 65535"):
        serve(folder, 70000)
