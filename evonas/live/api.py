"""The live page's routes: the JSON API, and the files of the page."""

from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import evonas
from evonas.layers.export import file_of
from evonas.listing import candidate_json, whole_json
from evonas.live.answers import Answer, Answers
from evonas.live.places import Places
from evonas.report.page import asset, frame, plotly
from evonas.report.panels import panel
from evonas.report.run_view import document
from evonas.report.survey import columns_of
from evonas.run import Run
from evonas.run_state import run_state
from evonas.search_space.errors import InputError
from evonas.store.choice import Choice, Chosen
from evonas.store.dump import jsonable
from evonas.store.records import columns
from evonas.studies.operators import names

if TYPE_CHECKING:
    from fastapi import FastAPI

NEEDED = "the live page needs FastAPI, uvicorn and Plotly: pip install 'evonas[web]'"
SCRIPTS = ("data.js", "filters.js", "plots.js", "panel.js", "starred.js", "page.js", "live.js")
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def app(places: Places, *, is_loopback: bool = True) -> "FastAPI":
    """The routes over some runs. All are read-only.

    Args:
        is_loopback: answer only requests to this machine's own names: a page elsewhere whose name leads here gets
            nothing.
    """
    try:
        from fastapi import Depends, FastAPI, Query, Request, Response
        from fastapi.exceptions import RequestValidationError
        from fastapi.responses import JSONResponse
    except ImportError:
        raise InputError(NEEDED) from None

    site = FastAPI(
        title="evonas",
        version=evonas.__version__,
        description="Runs of evonas, read-only. Accuracies are shares in [0, 1], times are seconds; figures of proxies "
        "that read text are bits per byte, and called so.",
        docs_url=None,  # its page would load scripts from another host
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    answers, files = Answers(), Answers()  # a file is compared with a float64 reference, which takes seconds

    def reply(request: Request, answer: Answer, kind: str = "application/json", name: str = "") -> Response:
        """An answer, or its tag alone where the client has it."""
        headers = {"ETag": f'"{answer.tag}"', "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        if name and answer.status == 200:
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        if answer.status == 200 and request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers={"ETag": headers["ETag"]})
        body = answer.body
        if "gzip" not in request.headers.get("accept-encoding", ""):
            body = answer.text.encode()
            del headers["Content-Encoding"]
        return Response(body, answer.status, headers, kind if answer.status == 200 else "application/json")

    def of_runs(request: Request, keys: Sequence[str], build: Callable[..., Any]) -> Response:
        """What `build` makes of opened runs, again when one of them has changed."""

        def version() -> Any:
            return [(run.reader.version, run_state(run.reader)) for run in map(places.run, keys)]

        return reply(request, answers.get(str(request.url), version, lambda: build(*map(places.run, keys))))

    def choice(
        state: Annotated[str | None, Query(description="pending, evaluated, rejected or crashed")] = None,
        gate: Annotated[str | None, Query(description="the gate that stopped it, or the kind of its crash")] = None,
        operator: Annotated[str | None, Query(description="one of its edits, or its origin")] = None,
        op: Annotated[list[str] | None, Query(description="the operation of a live node; repeatable")] = None,
        batch: Annotated[bool | None, Query(description="whether the output depends on the other images")] = None,
        proxy: Annotated[str | None, Query(description="a proxy on which it was trained to the end")] = None,
        at_least: Annotated[
            float, Query(description="least accuracy on that proxy, or most bits per byte; 0: any")
        ] = 0.0,
    ) -> Choice:
        return Choice(state, gate, operator, tuple(op or ()), batch, proxy, at_least)

    chosen_by, first, count = Depends(choice), Query(0, ge=0), Query(50, ge=1, le=1000)
    by = Query("advantage", description="advantage, birth, seq, seconds, nodes, or a proxy: its fitness")

    # ------------------------------------------------------------------------------- the API

    @site.get("/api/runs", summary="The runs: name, state, counts, best")
    def runs(request: Request) -> Response:
        def lines() -> Any:
            return jsonable([line.as_json() | {"key": name} for name, line in places.lines().items()])

        return reply(request, answers.get("runs", object, lines))

    @site.get("/api/runs/{name}", summary="One run: state, counts, time left, baseline, config")
    def run(request: Request, name: str) -> Response:
        return of_runs(request, [name], _run)

    @site.get("/api/runs/{name}/candidates", summary="A page of candidates")
    def candidates(
        request: Request, name: str, chose: Choice = chosen_by, order: str = by, descending: bool = True,
        offset: int = first, limit: int = count,
    ) -> Response:  # fmt: skip
        def page(run: Run) -> Any:
            chosen = Chosen(run.reader, chose)
            births = chosen.page(order, descending=descending, offset=offset, limit=limit)
            listed = [candidate_json(each, run.config.units) for each in run.candidates(births)]
            return jsonable({"total": chosen.count(), "candidates": listed})

        return of_runs(request, [name], page)

    @site.get("/api/runs/{name}/candidates/{birth}", summary="All that a run holds of one candidate")
    def candidate(request: Request, name: str, birth: int) -> Response:
        return of_runs(request, [name], lambda run: jsonable(whole_json(run, birth)))

    @site.get("/api/runs/{name}/candidates/{birth}/card", summary="Its picture, formula, curves and ancestors")
    def card(request: Request, name: str, birth: int) -> Response:
        return of_runs(request, [name], lambda run: panel(run, birth))

    @site.get("/api/runs/{name}/candidates/{birth}/layer.py", summary="Its layer, as `evonas export` writes it")
    def layer(request: Request, name: str, birth: int) -> Response:
        def source() -> Any:
            record = places.run(name).candidate(birth)
            return file_of(record, compiled=False)[0]

        return reply(request, files.get((name, birth), lambda: 0, source), "text/x-python", f"layer-{birth}.py")

    @site.get("/api/runs/{name}/rows", summary="A page of candidates as columns")
    def rows(
        request: Request, name: str, chose: Choice = chosen_by, order: str = by, descending: bool = True,
        offset: int = first, limit: int = count,
    ) -> Response:  # fmt: skip
        def page(run: Run) -> Any:
            births = Chosen(run.reader, chose).page(order, descending=descending, offset=offset, limit=limit)
            return jsonable(columns_of(run.reader, births).as_json())

        return of_runs(request, [name], page)

    @site.get("/api/runs/{name}/ends", summary="Where the candidates ended, by operator")
    def ends(request: Request, name: str, chose: Choice = chosen_by) -> Response:
        def counted(run: Run) -> Any:
            found = Chosen(run.reader, chose).ends()
            return [columns(each) | {"operator": "+".join(names(each.operator))} for each in found]

        return of_runs(request, [name], counted)

    @site.get("/api/page", summary="All that the page shows of one run, or of several beside each other")
    def page(request: Request, run: Annotated[list[str], Query(min_length=1)], chose: Choice = chosen_by) -> Response:
        def view(*runs: Run) -> Any:
            value = document(runs, chose)
            for name, each in zip(run, value["runs"], strict=True):
                each |= {"key": name, "label": name}
            return value

        return of_runs(request, run, view)

    # ------------------------------------------------------------------------------- the page

    @site.get("/", include_in_schema=False)
    @site.get("/view", include_in_schema=False)
    def home() -> Response:
        return Response(_home(), media_type="text/html")

    @site.get("/evonas.js", include_in_schema=False)
    def script(request: Request) -> Response:
        return reply(request, answers.get("evonas.js", lambda: 0, _script), "text/javascript")

    @site.get("/plotly.js", include_in_schema=False)
    def plots(request: Request) -> Response:
        return reply(request, answers.get("plotly.js", lambda: 0, plotly), "text/javascript")

    # ------------------------------------------------------------------------------- refusals

    def refusal(status: int, message: str) -> JSONResponse:
        return JSONResponse({"error": " ".join(message.split())}, status)

    @site.exception_handler(404)
    def absent(request: Request, error: Any) -> Response:
        return refusal(404, f"no path {request.url.path[:200]}")

    @site.exception_handler(405)
    def refused(request: Request, error: Any) -> Response:
        return refusal(405, "read-only: GET alone is answered")

    @site.exception_handler(RequestValidationError)
    def invalid(request: Request, error: Any) -> Response:
        first = error.errors()[0]
        return refusal(422, f"{first['loc'][-1]}: {first['msg'].lower()}, got {first['input']!r:.100}")

    @site.middleware("http")
    async def guarded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if is_loopback and urlsplit(f"//{request.headers.get('host', '')}").hostname not in LOOPBACK:
            response: Response = refusal(400, "this server answers on localhost alone")
        else:
            response = await call_next(request)
        for header, value in HEADERS.items():
            response.headers.setdefault(header, value)
        return response

    return site


def _run(run: Run) -> Any:
    fields = columns(run.status()) | {"name": run.name, "baseline": run.baseline(), "versions": run.versions}
    surrogate = fields.pop("surrogate")
    fields |= {"surrogate": surrogate.figures() if surrogate else None, "config": run.config.model_dump(mode="json")}
    return jsonable(fields | run.config.units.as_json())


@cache
def _home() -> str:
    return frame(title="evonas", scripts=[{"src": "/plotly.js"}, {"src": "/evonas.js"}])


def _script() -> str:
    return "\n".join(asset(name) for name in SCRIPTS)
