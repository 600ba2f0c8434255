"""The command `lmzoo cluster status`, which shows the computers of a Ray cluster."""

from __future__ import annotations

import cyclopts

from lmzoo.cli import terminal

app = cyclopts.App(
    name="cluster",
    help="Shows a Ray cluster: several computers on which `lmzoo compare`, `curves` and `ladder` train models, and on "
    "which `lmzoo fit ngram` fits a model, with the option `--cluster auto`.",
    default_parameter=cyclopts.Parameter(negative=()),  # is not inherited from the main program
)


@app.command
def status(*, address: str = "auto", json: bool = False) -> None:
    """Shows the nodes (computers) of a Ray cluster with the cores, the memory and the GPUs that they offer to lmzoo.

    Needs the extra lmzoo[cluster]. `RAY_AUTH_MODE=token ray start --head` starts a cluster on this computer, with the
    authentication token that `ray get-auth-token --generate` creates. `RAY_AUTH_MODE=token ray start --address
    HOST:PORT` adds another computer, which needs the same token.

    Parameters
    ----------
    address
        auto for the cluster of which this computer is a node, or HOST:PORT of the head node of another cluster.
    json
        Print one JSON record per node.
    """
    from lmzoo.system.ray_connection import ray_connection
    from lmzoo.system.ray_jobs import running_nodes

    with ray_connection(address) as ray:
        nodes = running_nodes(ray)
    if json:
        terminal.print_records(nodes)
        return
    rows = [
        [node.host, node.address, f"{node.n_cores}", f"{node.memory_bytes / 2**30:.1f} GiB", f"{node.n_gpus}"]
        for node in nodes
    ]
    terminal.print_table(["node", "address", "cores", "memory", "GPUs"], rows)
