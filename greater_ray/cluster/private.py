"""Who can reach a Ray: one of our own is on loopback alone, and asks for a token that only this user has.

Without this a Ray listens on all interfaces of the machine, and whoever reaches its ports runs code as this user.
"""

import errno
import fcntl
import ipaddress
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc
import ray
from ray._common.utils import get_default_system_temp_dir
from ray._private import ray_constants

# Ray reads the mode and the token once a process; a second Ray of this process has another token.
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from greater_ray.errors import DiskError, PoolError
from greater_ray.files import unwritable

# Short, since the paths of Ray's sockets are below it and may have about a hundred characters in all.
_PREFIX, _DRAFT, _TOKEN, _SESSIONS = "gr-", ".gr-", "greater-ray-token", "r"
# With this Ray takes the machine's loopback address for the address of the node, and every server of Ray listens on the
# address of its node alone where that is a loopback one. An address given as such is replaced by a reachable one
# (ray._private.services.resolve_ip_for_localhost), and at any other address the servers listen everywhere.
_NO_CLUSTERS = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
_SETTINGS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", _NO_CLUSTERS)
_LEAST = 4 * 2**20  # bytes; a small grid leaves a quarter of that in logs
_PROBE_SECONDS = 5.0


class Own(NamedTuple):
    """What belongs to one Ray of our own: the file of its token, and the folder of its sessions, sockets and logs."""

    token: Path
    sessions: Path


@contextmanager
def private() -> Iterator[Own]:
    """Make a Ray that is started inside reachable for this user of this machine alone; give its token and folder.

    Both are in a folder that nobody else can read, where Ray has its temporary files (``RAY_TMPDIR``, else the
    machine's), and go with the block. The token is in no environment and on no command line. What the environment says
    of tokens holds for clusters that are joined.

    Raises:
        DiskError, PoolError: nothing can be written there.
    """
    remove_left_ones()
    with room():
        if shutil.disk_usage(_temporary()).free < _LEAST:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # Ray would try for half a minute and not say why
    before = {name: os.environ.get(name) for name in _SETTINGS}
    clusters = ray_constants.ENABLE_RAY_CLUSTER
    with _marked_folder() as own:
        try:
            os.environ.pop("RAY_AUTH_TOKEN", None)  # it would go before the file
            os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(own.token), _NO_CLUSTERS: "0"})
            ray_constants.ENABLE_RAY_CLUSTER = False  # read from the environment when Ray was imported
            read_settings()
            yield own
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = clusters
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            read_settings()


@contextmanager
def _marked_folder() -> Iterator[Own]:
    """Make the folder of a Ray, marked by a token that is locked as long as this process lives, and remove it."""
    with room():
        draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=_temporary()))  # for this user alone
    folder = draft.with_name(draft.name.replace(_DRAFT, _PREFIX))
    try:
        with room(), (draft / _TOKEN).open("x") as token:
            # Held as long as the token is of use: what is left behind by a process that was killed can be told from it.
            fcntl.flock(token, fcntl.LOCK_EX)
            token.write(secrets.token_hex(32))
            token.flush()
            draft.rename(folder)  # before it was locked, another process would have taken it for one left behind
            held = os.dup(token.fileno())  # the lock is that of the open file
        try:
            # Ray opens its own folder to everybody; the one above it stays closed.
            yield Own(folder / _TOKEN, folder / _SESSIONS)
        finally:
            os.close(held)
    finally:
        for path in (draft, folder):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def room() -> Iterator[None]:
    """Say in one sentence that Ray's temporary folder takes no more.

    Raises:
        DiskError, PoolError: it does not.
    """
    try:
        yield
    except OSError as error:
        # One without a number is Ray's own: the path of a socket is too long.
        told = unwritable(_temporary() / _PREFIX, error) if error.errno else PoolError(str(error))
        why = f"{told.why.removesuffix('.')}; Ray has its temporary files there, RAY_TMPDIR names another folder."
        raise (DiskError if isinstance(told, DiskError) else PoolError)(why) from error


def _temporary() -> Path:
    """Return the folder for temporary files, as Ray chooses it: paths of sockets must be short."""
    return Path(get_default_system_temp_dir())


def read_settings() -> None:
    """Have Ray read from the environment again which mode and which token this process is to use."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def remove_left_ones() -> None:
    """Remove the tokens, and the sessions of Ray beside them, of this user's processes that are no more."""
    for file in _temporary().glob(f"{_PREFIX}*/{_TOKEN}"):
        try:
            if file.is_symlink() or file.parent.is_symlink() or file.stat().st_uid != os.getuid():
                continue
            with file.open() as token:
                fcntl.flock(token, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A Ray outlives its driver by moments, and only whoever still finds the token knows whose it is.
                if not any(map(_answers, file.parent.glob(f"{_SESSIONS}/session_*/sockets/raylet*"))):
                    shutil.rmtree(file.parent, ignore_errors=True)
        except OSError:  # held by a living process, or removed by another one
            continue


def _answers(path: Path) -> bool:
    """Tell whether a process listens on a socket."""
    with socket.socket(socket.AF_UNIX) as asked:
        try:
            asked.connect(str(path))
        except OSError:
            return False
        return True


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
