"""evonas doctor, submit: check a search before its launch, and launch it on a cluster."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

import evonas
from evonas.cli.formats import print_json
from evonas.cli.options import CONFIG, JSON, SET
from evonas.cli.tables import say, terminal

if TYPE_CHECKING:
    from evonas.studies.doctor import Finding

STYLES = {"ok": "", "warning": "yellow", "failed": "bold red"}


@click.command()
@CONFIG
@SET
@JSON
def doctor(config: Path, settings: tuple[str, ...], as_json: bool) -> None:
    """Check everything that a search with CONFIG needs, and estimate its cost.

    Checked are the data, your own modules that the config names (they are run), the database and its lock, the disk,
    versions, data and modules on every node, and a short evaluation of BN-ReLU. Exit code 1 if a check fails.

    \b
    Example: evonas doctor quickstart.yaml --set cluster.address=auto
    """
    from evonas.store.records import columns

    console = terminal()

    def show(finding: "Finding") -> None:
        say(console, f"{finding.result:7} {finding.what}: {finding.text}", style=STYLES[finding.result], hang=8)

    findings = evonas.doctor(config, settings=settings, on_finding=(lambda finding: None) if as_json else show)
    if as_json:
        print_json([columns(each) for each in findings])
    sys.exit(any(each.result == "failed" for each in findings))


@click.command()
@CONFIG
@click.option("--address", required=True, metavar="URL", help="The cluster's dashboard: http://HEAD:8265.")
@click.option(
    "--run", metavar="FOLDER", help="The folder on the cluster's head: an absolute path that outlives the job."
)
@click.option("--follow/--no-follow", "follows", default=False, help="Print the job's output until it ends.")
@SET
def submit(config: Path, address: str, run: str | None, follows: bool, settings: tuple[str, ...]) -> None:
    """Send a search with CONFIG to a Ray cluster, where its driver runs as a Ray job.

    evonas must be installed on the cluster's machines; your own modules that the config names are sent along. Keep the
    records where they outlive the job: in an absolute --run on the head, or in store.url.

    \b
    Example: evonas submit cifar10.yaml --address http://head:8265 --run /shared/runs/first
    """
    from evonas.cluster import failure, follow

    job = evonas.submit(config, address, run=run, settings=settings)
    print(f"Sent as {job}. Read its output with: ray job logs {job} --address {address}")
    if follows:
        for text in follow(address, job):
            print(text, end="", flush=True)
        if reason := failure(address, job):
            print(f"evonas: {job}: {reason}", file=sys.stderr)
            sys.exit(1)
