"""Who can reach a Ray: one of our own is on loopback alone, and asks for a token that only this user has.

Without this a Ray listens on all interfaces of the machine, and whoever reaches its ports runs code as this user.
"""

import fcntl
import ipaddress
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import ray
from ray._private import ray_constants

# Ray reads the mode and the token once a process; a second Ray of this process has another token.
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from greater_ray.errors import PoolError

_PREFIX, _DRAFT = "greater-ray-token-", "greater-ray-draft-"
# With this Ray takes the machine's loopback address for the address of the node, and every server of Ray listens on the
# address of its node alone where that is a loopback one. An address given as such is replaced by a reachable one
# (ray._private.services.resolve_ip_for_localhost), and at any other address the servers listen everywhere.
_NO_CLUSTERS = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
_SETTINGS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", _NO_CLUSTERS)
_PROBE_SECONDS = 5.0


@contextmanager
def private() -> Iterator[Path]:
    """Make a Ray that is started inside reachable for this user of this machine alone; give the file of its token.

    The token is in a file that nobody else can read, under the machine's temporary folder; it is in no environment, on
    no command line, and goes with the block. What the environment says of tokens holds for clusters that are joined.
    """
    _remove_left_ones()
    before = {name: os.environ.get(name) for name in _SETTINGS}
    clusters = ray_constants.ENABLE_RAY_CLUSTER
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT))  # for this user alone
    folder = draft.with_name(draft.name.replace(_DRAFT, _PREFIX))
    file = folder / "token"
    with (draft / file.name).open("x") as token:
        # Held as long as the token is of use: what is left behind by a process that was killed can be told from it.
        fcntl.flock(token, fcntl.LOCK_EX)
        token.write(secrets.token_hex(32))
        token.flush()
        try:
            draft.rename(folder)  # before it was locked, another process would have taken it for one left behind
            os.environ.pop("RAY_AUTH_TOKEN", None)  # it would go before the file
            os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file), _NO_CLUSTERS: "0"})
            ray_constants.ENABLE_RAY_CLUSTER = False  # read from the environment when Ray was imported
            read_settings()
            yield file
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = clusters
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            read_settings()
            shutil.rmtree(folder, ignore_errors=True)


def read_settings() -> None:
    """Have Ray read from the environment again which mode and which token this process is to use."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _remove_left_ones() -> None:
    """Remove the tokens of this user's processes that are no more."""
    for file in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/token"):
        try:
            if file.is_symlink() or file.parent.is_symlink() or file.stat().st_uid != os.getuid():
                continue
            with file.open() as token:
                fcntl.flock(token, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(file.parent, ignore_errors=True)
        except OSError:  # held by a living process, or removed by another one
            continue


def require_loopback() -> None:
    """Make sure that the Ray that was started is where nobody else reaches it.

    Raises:
        PoolError: its node has an address that others reach.
    """
    address = ray.util.get_node_ip_address()
    if not ipaddress.ip_address(address).is_loopback:
        why = (
            f"Ray {ray.__version__} cannot be kept on loopback, it listens on {address}; §replicas.count 0 needs none."
        )
        raise PoolError(why, setting="address")


def openness() -> str | None:
    """Say that the cluster which was joined lets anybody in; None where it asks for a token or a certificate.

    It is asked the way that a stranger would: without a token.
    """
    if os.environ.get("RAY_USE_TLS", "0") == "1":
        return None
    address = ray.get_runtime_context().gcs_address
    try:
        with grpc.insecure_channel(address) as channel:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(b"", timeout=_PROBE_SECONDS)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return None
        return f"whether the Ray cluster at {address} asks for a token could not be told ({error.code().name})"
    return (
        f"the Ray cluster at {address} asks nobody for a token: whoever reaches its ports runs code on it and reads "
        "what this grid computes; start it with RAY_AUTH_MODE=token"
    )
