"""evonas serve: the live page."""

import click

from evonas.live import PORT


@click.command()
@click.argument("places", metavar="[RUN|FOLDER]...", nargs=-1)
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
def serve(places: tuple[str, ...], port: int, host: str) -> None:
    """Serve a page that follows runs while they search: a list, and for each the views of `evonas report`.

    RUN is a run's folder, a .db file or URL#run; FOLDER (results, by default) holds runs. The page shows counts,
    fronts, funnel, workers and each layer; filters hold in all plots. Several runs are compared. /api/openapi.json
    describes the JSON API. Nothing is written, and the search is not held up. Only this machine reaches the page,
    unless --host says otherwise: whoever reaches it can read the runs. Ctrl-C ends it.

    \b
    Example: evonas serve results
             evonas serve results/quickstart-000 --port 0
    """
    from evonas.live.serve import serve
    from evonas.search_space.wording import counted

    def ready(url: str, runs: int) -> None:
        print(f"Serving {counted(runs, 'run')} at {url} (Ctrl-C ends it).", flush=True)

    serve(places or "results", port, host, ready=ready)
    print("Ended.")
