"""A cluster that a file describes: which of Dask's classes starts it, with what, and how many
workers.

    kind = "SLURMCluster"     # of dask_jobqueue, or LocalCluster or SSHCluster of distributed
    workers = 16              # SSHCluster and LocalCluster take theirs from the options
    patience = 7200           # seconds to wait for the first worker, as in a queue
    [options]                 # what that class is called with
    cores = 1
    memory = "8GB"
"""

import atexit
import tomllib
from pathlib import Path

from replicate.errors import BadData, BadParameter, Missing, Unavailable, unknown

OF_DISTRIBUTED = ("LocalCluster", "SSHCluster")
CLUSTER_FIELDS = {"kind": str, "workers": int, "patience": int, "options": dict}
ADDRESS = "://"  # what an address has and the name of a file has not


def is_file_name(where: str) -> bool:
    """Whether the words after --workers name a file, and not a scheduler such as tcp://host:8786.

    Raises BadParameter for what can be neither.
    """
    if ADDRESS in where:
        return False
    if Path(where).suffix == ".toml":
        return True
    raise BadParameter(
        f"workers must be an address such as tcp://host:8786 or a cluster file .toml, got {where!r}"
    )


def read(path: Path) -> dict:
    """The fields of a cluster file. Raises Missing, BadData."""
    try:
        fields = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise Missing(f"cluster file {path} is not there; docs/scale/ has some to copy") from None
    except (OSError, ValueError) as error:
        raise BadData(f"{path} is no cluster file ({error})") from None
    for name, value in fields.items():
        if name not in CLUSTER_FIELDS:
            raise BadData(f"{path}: {unknown('field', name, CLUSTER_FIELDS)}")
        if not isinstance(value, CLUSTER_FIELDS[name]):
            raise BadData(
                f"{path}: {name} must be of type {CLUSTER_FIELDS[name].__name__}, got {value!r}"
            )
    if "kind" not in fields:
        raise BadData(f"{path} must say the kind of its cluster, such as kind = 'LocalCluster'")
    return fields


def patience(where: str, otherwise: float) -> float:
    """Seconds to wait for the first worker."""
    return read(Path(where)).get("patience", otherwise) if is_file_name(where) else otherwise


def start(where: str):
    """The cluster, running until this process ends. Raises Missing, BadData, Unavailable."""
    fields = read(Path(where))
    cluster = _make(Path(where), fields)
    atexit.register(cluster.close)
    if "workers" in fields:
        cluster.scale(fields["workers"])
    return cluster


def job_script(path: Path) -> str:
    """What is handed to the queue for one worker. Raises BadData for a cluster without a queue."""
    fields = read(path)
    cluster = _make(path, fields)
    try:
        if not hasattr(cluster, "job_script"):
            raise BadData(f"{path}: a {fields['kind']} hands no script to a queue")
        return cluster.job_script()
    finally:
        cluster.close()


def _make(path: Path, fields: dict):
    kinds = _list_kinds()
    if (kind := fields["kind"]) not in kinds:
        raise BadData(f"{path}: {unknown('kind of cluster', kind, kinds)}")
    try:
        return kinds[kind](**fields.get("options", {}))
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise Unavailable(f"{path}: {kind} does not start ({line})") from None


def _list_kinds() -> dict[str, type]:
    """Name -> class, or what starts one."""
    import dask_jobqueue
    import distributed

    queued = {n: c for n, c in vars(dask_jobqueue).items() if n.endswith("Cluster")}
    return queued | {name: getattr(distributed, name) for name in OF_DISTRIBUTED}
