"""One machine as a Ray cluster: an SSH server to launch on, Ray's own commands, and an end to all they started.

``ray stop`` and ``ray down`` end every Ray on the machine, also those of other people. So nothing here calls them:
whatever a test started is found as a descendant of the test's own process, and ended by its id.
"""

import ctypes
import getpass
import hashlib
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
PR_SET_CHILD_SUBREAPER = 36
# sshd started by root insists on this folder, which the system's service makes and a container often lacks.
PRIVILEGE_SEPARATION = Path("/run/sshd")


def skip_without_ssh(reason: str) -> NoReturn:
    """Skip, or fail where GREATER_RAY_REQUIRE_SSH says that a login over SSH must be possible."""
    if os.environ.get("GREATER_RAY_REQUIRE_SSH"):
        pytest.fail(f"GREATER_RAY_REQUIRE_SSH is set, but: {reason}")
    pytest.skip(reason)


def missing_for_ssh() -> str:
    """Return what this machine lacks for a cluster over SSH, or an empty string."""
    if not Path("/proc/self/stat").exists():
        return "needs Linux: left-over processes are found in /proc"
    lacking = [name for name in ("ssh", "ssh-keygen", "rsync") if shutil.which(name) is None]
    if SSHD is None:
        lacking.append("sshd")
    if lacking:
        return f"not installed: {', '.join(lacking)} (Debian packages openssh-client, openssh-server, rsync)"
    if os.geteuid() == 0:
        with suppress(OSError):
            PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        if not PRIVILEGE_SEPARATION.is_dir():
            return f"sshd needs the folder {PRIVILEGE_SEPARATION}"
    return ""


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on; all are held until the last is known, so that they differ."""
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


# -- processes


def process_table() -> dict[int, tuple[int, bool]]:
    """Return of every process its parent, and whether it runs: one that has ended may still wait to be fetched."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                # The name is in parentheses and may hold anything, so the fields are read behind the last one.
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                found[int(folder.name)] = (int(parent), state not in "ZX")
    return found


def started_since(before: set[int], *, ended_too: bool = False) -> set[int]:
    """Return the descendants of this process that are not in, or under, ``before``."""
    table = process_table()
    found, frontier = set(), {os.getpid()}
    while frontier:
        frontier = {pid for pid, (parent, _) in table.items() if parent in frontier} - before
        found |= frontier
    return found if ended_too else {pid for pid in found if table[pid][1]}


def command_lines(pids: set[int]) -> list[str]:
    """Return the commands of some processes, for a message."""
    lines = []
    for pid in sorted(pids):
        with suppress(OSError):
            lines.append(f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes().replace(bytes(1), b' ').decode()[:160]}")
    return lines


def end(before: set[int], how: signal.Signals, seconds: float) -> set[int]:
    """Send a signal to all that was started, also to what starts meanwhile; return what is still there after a time."""
    told: set[int] = set()
    deadline = time.monotonic() + seconds
    while (left := started_since(before)) and time.monotonic() < deadline:
        for pid in left - told:
            with suppress(ProcessLookupError):
                os.kill(pid, how)
        told |= left
        time.sleep(0.05)
    return left


def fetch_ended(before: set[int]) -> None:
    """Take the exit status of every adopted process that has ended, as init would have done."""
    for pid in started_since(before, ended_too=True):
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


@contextmanager
def all_processes_ended(patience: float = 4) -> Iterator[None]:
    """End every process that the block started, however it detached itself, and check that none is left.

    Ray's daemons and those of SSH leave their parents. As a subreaper this process becomes their parent instead of
    init, so the tree of processes stays whole, and nothing is found by its name. What does not end within ``patience``
    seconds is killed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")
    before = started_since(set(), ended_too=True)
    try:
        yield
    finally:
        left = end(before, signal.SIGTERM, patience) and end(before, signal.SIGKILL, 10)
        fetch_ended(before)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        assert not left, f"still running: {command_lines(left)}"


# -- a node and its user


@dataclass(frozen=True)
class Account:
    """A home folder and an environment of its own, so that no test reads or writes the files of who runs it."""

    home: Path
    temp: Path

    @classmethod
    def create(cls, folder: Path) -> "Account":
        """Make the folders; they have short names, because Ray keeps Unix sockets in them (at most 107 characters)."""
        account = cls(folder / "home", folder / "tmp")
        account.home.mkdir(parents=True)
        (account.home / ".bashrc").touch()
        account.temp.mkdir()
        return account

    @property
    def token(self) -> Path:
        """Where Ray looks for the token by itself."""
        return self.home / ".ray" / "auth_token"

    def write_token(self) -> None:
        """Make a token, as the only way into the cluster."""
        self.token.parent.mkdir(exist_ok=True)
        self.token.touch(mode=0o600)
        self.token.write_text(secrets.token_hex(32))

    @property
    def variables(self) -> dict[str, str]:
        """What makes Ray and the Hugging Face libraries stay within this account, on this machine."""
        return {
            "HOME": str(self.home),
            "RAY_TMPDIR": str(self.temp),
            "HF_HOME": str(self.home / "huggingface"),
            "HF_HUB_OFFLINE": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            # In place of an installed package: the checkout that is being tested.
            "PYTHONPATH": str(ROOT),
        }

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a command that this account runs, in token mode.

        On a dumb terminal every message is a line that stays, also behind the terminal that `ray submit` asks for.
        """
        passed_on = {name: os.environ[name] for name in ("LANG", "LC_ALL", "USER", "LOGNAME") if name in os.environ}
        path = os.pathsep.join([str(self.home / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
        screen = {"TERM": "dumb", "COLUMNS": "200"}
        return {**passed_on, **self.variables, **screen, "PATH": path, "RAY_AUTH_MODE": "token"}

    def run(self, *command: str, cwd: Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with output and errors in one text.

        The text goes through a file: daemons inherit it, and a pipe would stay open for as long as they live.
        """
        with (self.home / "output.txt").open("w+", errors="replace") as output:
            started = subprocess.Popen(
                command, cwd=cwd, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            try:
                code = started.wait(timeout)
            except subprocess.TimeoutExpired:
                code = -1
            output.seek(0)
            return subprocess.CompletedProcess(list(command), code, output.read())


@contextmanager
def ssh_server(node: Account, user: Account) -> Iterator[Path]:
    """Let ``user`` log in as ``node`` with a key, over a free loopback port; yield the key.

    The launcher knows no port. OpenSSH looks for its configuration in the home folder of the password database, not
    in ``$HOME``. So a command ``ssh`` of the user's own, first on the path, names both.
    """
    assert SSHD is not None
    (port,) = free_ports(1)
    for key in (node.home / "host_key", user.home / "id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    # One line: of several SetEnv lines sshd takes the first.
    variables = " ".join(f'"{name}={value}"' for name, value in node.variables.items())
    config = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": node.home / "host_key",
        "AuthorizedKeysFile": user.home / "id_ed25519.pub",
        "AuthenticationMethods": "publickey",
        "PermitRootLogin": "prohibit-password",
        "UsePAM": "no",
        "StrictModes": "no",  # the home folder lies below a shared folder for temporary files
        "PidFile": "none",
        "SetEnv": variables,
    }
    written = node.home / "sshd_config"
    written.write_text("".join(f"{name} {value}\n" for name, value in config.items()))
    program = user.home / "bin" / "ssh"
    program.parent.mkdir()
    real = shlex.quote(str(shutil.which("ssh")))
    program.write_text(f'#!/bin/sh\nexec {real} -F none -o Port={port} "$@"\n')
    program.chmod(0o755)
    log = node.home / "sshd.log"
    server = subprocess.Popen([SSHD, "-D", "-f", str(written), "-E", str(log)], stdin=subprocess.DEVNULL)
    try:
        wait_for_port(port, server, log)
        check_login(user, log)
        yield user.home / "id_ed25519"
    finally:
        server.terminate()
        server.wait(10)


def wait_for_port(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something listens there: the launcher's first attempt then succeeds, its next is 5 s later."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"sshd does not listen: {log.read_text() if log.exists() else 'no log'}")


def check_login(user: Account, log: Path) -> None:
    """Skip where the system refuses the login, for instance of a locked account: the launcher would try for minutes."""
    options = ["-i", str(user.home / "id_ed25519"), "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"]
    command = ["ssh", "-tt", *options, "-o", "UserKnownHostsFile=/dev/null", f"{getpass.getuser()}@127.0.0.1", "true"]
    done = user.run(*command, cwd=user.home, timeout=20)
    if done.returncode != 0:
        skip_without_ssh(f"no login over SSH on this machine: {done.stdout.strip()[-300:]} / {log.read_text()[-300:]}")


# -- Ray's commands


def ray(*arguments: str) -> list[str]:
    """Return a command of Ray, as installed beside the Python that runs the tests."""
    return [str(Path(sys.executable).parent / "ray"), *arguments]


def start_head(*more: str) -> tuple[list[str], int, int]:
    """Return ``ray start --head`` with free ports for the fixed ones, the port where drivers join, the dashboard's."""
    gcs, dashboard, client, agent = free_ports(4)
    command = ["ray", "start", "--head", "--node-ip-address=127.0.0.1", "--disable-usage-stats", "--num-cpus=4"]
    ports = [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    ports.append(f"--dashboard-agent-listen-port={agent}")
    # Small, because /dev/shm of a container is; Ray takes 30 % of the memory by itself.
    return [*command, *ports, "--object-store-memory=100000000", *more], gcs, dashboard


def one_machine(shipped: Path, node: Account, user: Account, key: Path) -> dict[str, Any]:
    """Return a shipped on-premise file, changed only where one machine and no network ask for it."""
    config = yaml.safe_load(shipped.read_text())
    # The name decides where the launcher keeps its SSH sockets, so it is a new one every time.
    config["cluster_name"] = f"test-{secrets.token_hex(6)}"
    config["provider"] |= {"head_ip": "127.0.0.1", "worker_ips": []}
    config["auth"] = {"ssh_user": getpass.getuser(), "ssh_private_key": str(key)}
    # The checkout is used in place of an installed wheel, which would have to be built and fetch its dependencies.
    config["file_mounts"] = {"~/.ray/auth_token": str(user.token)}
    places = {"$HOME/greater-ray-env/bin": str(Path(sys.executable).parent), "/mnt/greater-ray": str(node.home)}
    setup = [command for command in config["setup_commands"] if "greater-ray-env/bin/python" not in command]
    for shipped_place, place in places.items():
        setup = [command.replace(shipped_place, place) for command in setup]
    config["setup_commands"] = setup
    # No `ray stop`: it would end every other Ray on this machine. What comes before `ray start` stays as shipped.
    before = config["head_start_ray_commands"][-1].partition("ray start")[0]
    start, _, _ = start_head("--autoscaling-config=~/ray_bootstrap_config.yaml", "--include-dashboard=false")
    config["head_start_ray_commands"] = [before + " ".join(start)]
    config["worker_start_ray_commands"] = []
    return config


def remove_ssh_sockets(cluster_name: str) -> None:
    """Remove the folder that the launcher makes for shared SSH connections and leaves behind."""
    user, cluster = (hashlib.sha256(name.encode()).hexdigest()[:10] for name in (getpass.getuser(), cluster_name))
    shutil.rmtree(Path("/tmp") / f"ray_ssh_{user}" / cluster, ignore_errors=True)
