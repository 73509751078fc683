"""evonas doctor, submit: before a search, and a search elsewhere."""

import sys
from pathlib import Path

import click

import evonas
from evonas.cli.options import CONFIG, JSON, SET
from evonas.cli.query import print_json
from evonas.cli.tables import terminal

STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


@click.command()
@CONFIG
@SET
@JSON
def doctor(config: Path, settings: tuple[str, ...], as_json: bool) -> None:
    """Check what a search with CONFIG needs before it is launched, and tell what it will cost.

    Data, database and its lock, disk, the versions and the data of every node, a BN-ReLU smoke evaluation. Exit code
    1 where something fails.

    \b
    Example: evonas doctor quickstart.yaml --set cluster.address=auto
    """
    from evonas.store.records import columns
    from evonas.studies.doctor import doctor as examine

    loaded, console, findings = evonas.load_config(config, settings), terminal(), []
    for each in examine(loaded):
        findings.append(each)
        if not as_json:
            console.print(f"{each.verdict:8}", end="", style=STYLES[each.verdict])
            console.print(f"{each.what}: {each.text}", soft_wrap=True)
    if as_json:
        print_json([columns(each) for each in findings])
    sys.exit(any(each.verdict == "failed" for each in findings))


@click.command()
@CONFIG
@click.option("--address", required=True, metavar="URL", help="Of the cluster's dashboard: http://HEAD:8265.")
@click.option("--run", metavar="FOLDER", help="On the cluster's head: an absolute path that outlives the job.")
@click.option("--follow/--no-follow", "follows", default=False, help="Print what it prints until it ends.")
@SET
def submit(config: Path, address: str, run: str | None, follows: bool, settings: tuple[str, ...]) -> None:
    """Send a search with CONFIG to a Ray cluster, where its driver runs as a Ray job.

    evonas is installed on the cluster's machines. Keep the records where they outlive the job: an absolute --run on the
    head, or store.url.

    \b
    Example: evonas submit cifar10.yaml --address http://head:8265 --run /shared/runs/first
    """
    from evonas.cluster import failure, follow
    from evonas.cluster import submit as submit_search

    job = submit_search(evonas.load_config(config, settings), address, run=run)
    print(f"Sent as {job}. Its output: ray job logs {job} --address {address}")
    if follows:
        for text in follow(address, job):
            print(text, end="", flush=True)
        if reason := failure(address, job):
            print(f"evonas: {job}: {reason}", file=sys.stderr)
            sys.exit(1)
