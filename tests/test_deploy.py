"""The files for clusters hold together: Ray's own checks, and what those let through."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.node_provider_availability_tracker import NodeProviderAvailabilityTracker
from ray.autoscaler._private.resource_demand_scheduler import ResourceDemandScheduler
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.node_launch_exception import NodeLaunchException

from greater_ray.cluster import spot_fallback

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
LAUNCHER_FILES = [ROOT / "cluster.yaml", DEPLOY / "on-premise.yaml"]
ALL_FILES = [ROOT / "cluster.yaml", *sorted(file for file in DEPLOY.iterdir() if file.is_file())]
PIPELINES = sorted((ROOT / "pipelines").glob("*_grid.py"))
COMMANDS = ("head_start_ray_commands", "worker_start_ray_commands")
TOKEN = "~/.ray/auth_token"
# Long runs of hexadecimal or base64 digits, as tokens and keys are; placeholders consist of zeros.
SECRET = re.compile(r"hf_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16}|-----BEGIN|\b(?=[0-9a-f]*[1-9a-f])[0-9a-f]{32,}\b")


def constraint(package: str) -> str:
    """Return the version of a package that this project is tested with."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    (version,) = [line.partition("==")[2] for line in lines if line.partition("==")[0] == package]
    return version


def python_minor() -> str:
    """Return the oldest Python that the project allows, for instance 3.11: the one the clusters run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["requires-python"].removeprefix(">=")


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def pipeline_commands(text: str) -> list[str]:
    """Return the commands that start a pipeline, also those in comments; a backslash continues a line."""
    lines = re.sub(r"\\\n#?\s*", "", text).splitlines()
    return [line for line in lines if re.search(r"\w_grid\.py.* --\w", line)]


def ray_image_tags(text: str) -> list[str]:
    """Return the tags of Ray's official images that a text names, and those of our own that repeat them."""
    return re.findall(r"rayproject/ray:(\S+)", text) + re.findall(r"/greater-ray:ray(\S+)", text)


@pytest.fixture(params=LAUNCHER_FILES, ids=lambda file: file.name)
def launcher_file(request: pytest.FixtureRequest) -> dict[str, Any]:
    return load(request.param)


def test_ray_accepts_the_file(launcher_file: dict[str, Any]) -> None:
    validate_config(prepare_config(launcher_file))


@pytest.mark.parametrize("wrong", [{"max_worker": 3}, {"head_node_type": "nobody"}, {"docker": {"imag": "x"}}])
def test_the_check_can_fail(wrong: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"max_worker|head_node_type|imag"):
        validate_config(prepare_config(load(ROOT / "cluster.yaml") | wrong))


@pytest.mark.parametrize("file", ALL_FILES, ids=lambda file: file.name)
def test_images_have_the_tested_ray_and_python(file: Path) -> None:
    prefix = f"{constraint('ray')}-py{python_minor().replace('.', '')}"
    tags = ray_image_tags(file.read_text())
    assert [tag for tag in tags if not re.fullmatch(rf"{re.escape(prefix)}(-cpu|-gpu)?", tag)] == []
    assert tags or file.name not in {"cluster.yaml", "Dockerfile", "kuberay-rayjob.yaml"}


def test_the_page_names_the_versions_that_have_to_be_equal() -> None:
    page = (DEPLOY / "README.md").read_text()
    assert f"Ray {constraint('ray')} and Python {python_minor()}." in page
    assert f"python{python_minor()} -m venv" in (DEPLOY / "on-premise.yaml").read_text()


@pytest.mark.parametrize("file", ALL_FILES, ids=lambda file: file.name)
def test_no_secret_is_in_the_file(file: Path) -> None:
    assert SECRET.findall(file.read_text()) == []


def test_the_search_for_secrets_finds_some() -> None:
    assert SECRET.search("token: 3f786850e387550fdab836ed7e6dc881de23001b")
    assert SECRET.search("hf_" + "aB3" * 10)
    assert not SECRET.search("ami-" + "0" * 32)


def test_every_node_gets_the_token_and_the_package(launcher_file: dict[str, Any]) -> None:
    full = prepare_config(launcher_file)
    assert full["file_mounts"][TOKEN] == TOKEN
    for commands in (full["head_setup_commands"], full["worker_setup_commands"]):
        assert f"chmod 600 {TOKEN}" in commands
        (install,) = [command for command in commands if ".whl" in command]
        assert "-c ~/greater-ray-files/constraints.txt" in install
    assert full["file_mounts"]["~/greater-ray-files"] == "dist/cluster"
    assert "dist/cluster" in (ROOT / "Makefile").read_text()


def test_every_start_is_in_token_mode_with_all_threads(launcher_file: dict[str, Any]) -> None:
    for commands in COMMANDS:
        starts = [command for command in launcher_file[commands] if "ray start" in command]
        assert len(starts) == 1
        before = starts[0].partition("ray start")[0]
        assert "RAY_AUTH_MODE=token" in before
        assert "unset OMP_NUM_THREADS" in before
        assert launcher_file[commands][0] == "ray stop"
    # The second version of the autoscaler leaves on-premise workers alone, and asks for refused machines again.
    assert "RAY_enable_autoscaler_v2=0" in launcher_file["head_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in launcher_file["head_start_ray_commands"][-1]


def test_every_driver_is_in_token_mode() -> None:
    assert "-e RAY_AUTH_MODE=token" in load(ROOT / "cluster.yaml")["docker"]["run_options"]
    profile = [command for command in load(DEPLOY / "on-premise.yaml")["setup_commands"] if "~/.bashrc" in command]
    assert len(profile) == 1
    assert "RAY_AUTH_MODE=token" in profile[0]


@pytest.mark.parametrize("file", LAUNCHER_FILES, ids=lambda file: file.name)
def test_every_command_is_a_command_for_bash(file: Path) -> None:
    full = prepare_config(load(file))
    names = ("initialization_commands", "head_setup_commands", "worker_setup_commands", *COMMANDS)
    # The launcher puts each into parentheses, so a comment at its end would swallow the closing one.
    script = "\n".join(f"({command})" for name in names for command in full[name])
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("file", [ROOT / "README.md", *ALL_FILES, *PIPELINES], ids=lambda file: file.name)
def test_every_command_that_waits_says_for_how_many_replicas(file: Path) -> None:
    assert [c for c in pipeline_commands(file.read_text()) if "--wait" in c and "--replicas" not in c] == []


def test_the_search_for_commands_finds_them_whole() -> None:
    found = [pipeline_commands(file.read_text()) for file in (ROOT / "cluster.yaml", DEPLOY / "on-premise.yaml")]
    assert [len(commands) for commands in found] == [1, 1]
    for (command,) in found:
        assert "--replicas" in command
        assert "--wait" in command
        assert "--out /mnt/greater-ray/bbh" in command
    (job,) = [c for c in pipeline_commands((DEPLOY / "kuberay-rayjob.yaml").read_text()) if "--wait" in c]
    assert "--replicas" in job


def test_what_is_submitted_to_a_launched_cluster_needs_no_address() -> None:
    for file in (ROOT / "README.md", *LAUNCHER_FILES, DEPLOY / "README.md", *PIPELINES):
        assert [c for c in pipeline_commands(file.read_text()) if "submit" in c and "--address auto" in c] == []


@pytest.mark.parametrize("file", ALL_FILES, ids=lambda file: file.name)
def test_no_file_opens_a_port_to_the_world(file: Path) -> None:
    text = "\n".join(line for line in file.read_text().splitlines() if not line.lstrip().startswith("#"))
    opened = r"0\.0\.0\.0|::/0|LoadBalancer|NodePort|Ingress|host(?:Network|Port)|^EXPOSE|--publish|-p \d+:|disabled"
    assert re.findall(opened, text, re.MULTILINE) == []
    for host in re.findall(r"--dashboard-host[= ](\S+)", text):
        assert host == "127.0.0.1"


def test_every_machine_on_aws_is_in_a_group_that_ray_does_not_open(aws: dict[str, Any]) -> None:
    """Ray opens SSH to everybody in a group that it makes, which it does for types that name none."""
    groups = [tuple(kind["node_config"]["SecurityGroupIds"]) for kind in aws["available_node_types"].values()]
    assert len(groups) == 3
    assert set(groups) == {("sg-00000000000000000",)}
    assert "security_group" not in aws["provider"]
    page = (DEPLOY / "README.md").read_text()
    rules = re.findall(r"authorize-security-group-ingress .*", page)
    assert len(rules) == 2
    assert re.search(r"--port 22 --cidr \S+/32$", rules[0])
    assert rules[1].endswith("--source-group $group")


# -- cluster.yaml


@pytest.fixture
def aws() -> dict[str, Any]:
    return prepare_config(load(ROOT / "cluster.yaml"))


def test_the_head_takes_no_work_and_gpu_machines_start_from_none(aws: dict[str, Any]) -> None:
    types = aws["available_node_types"]
    head = types[aws["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0
    assert "InstanceMarketOptions" not in head["node_config"]
    spot, on_demand = types["gpu_spot"], types["gpu_on_demand"]
    assert spot["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert spot["min_workers"] == on_demand["min_workers"] == 0
    assert 0 < on_demand["max_workers"] <= spot["max_workers"] <= aws["max_workers"]
    # The fallback is the same machine, bought otherwise.
    without_market = {k: v for k, v in spot["node_config"].items() if k != "InstanceMarketOptions"}
    assert on_demand["node_config"] == without_market
    assert on_demand["resources"] == spot["resources"]
    assert spot["resources"]["GPU"] == 1


def test_idle_machines_leave_and_are_not_kept_stopped(aws: dict[str, Any]) -> None:
    assert 0 < aws["idle_timeout_minutes"] <= 30
    assert aws["provider"]["cache_stopped_nodes"] is False


def test_results_and_models_are_on_a_shared_folder_on_every_node(aws: dict[str, Any]) -> None:
    (mount,) = [command for command in aws["initialization_commands"] if "mount -t nfs4" in command]
    assert mount.endswith(f"efs.{aws['provider']['region']}.amazonaws.com:/ /mnt/greater-ray")
    options = aws["docker"]["run_options"]
    assert "-v /mnt/greater-ray:/mnt/greater-ray" in options
    assert "-e HF_HOME=/mnt/greater-ray/huggingface" in options


# What the autoscaler asks a cloud for: no machine runs yet but the head.
HEAD_ONLY = SimpleNamespace(
    node_tags=lambda node: {"ray-node-type": "head", "ray-user-node-type": "head"}, internal_ip=lambda node: node
)


def launched(
    aws: dict[str, Any], refused: set[str], demands: list[dict[str, float]], *, requested: bool = False
) -> dict[str, int]:
    """Return which machines Ray's autoscaler would launch, when the cloud has refused some types just now.

    Demands come from actors that wait, or from ``request_resources``.
    """
    tracker = NodeProviderAvailabilityTracker(timer=lambda: 100.0)
    for name in refused:
        tracker.update_node_availability(name, 100, NodeLaunchException("InsufficientInstanceCapacity", "none", None))
    scheduler = ResourceDemandScheduler(
        HEAD_ONLY, aws["available_node_types"], aws["max_workers"], aws["head_node_type"], upscaling_speed=1
    )
    nodes, _ = scheduler.get_nodes_to_launch(
        nodes=["10.0.0.1"],
        launching_nodes={},
        resource_demands=[] if requested else demands,
        unused_resources_by_ip={"10.0.0.1": {"CPU": 0}},
        pending_placement_groups=[],
        max_resources_by_ip={"10.0.0.1": {"CPU": 0}},
        ensure_min_cluster_size=demands if requested else [],
        node_availability_summary=tracker.summary(),
    )
    return dict(nodes)


@pytest.fixture
def our_choice(aws: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """Let Ray choose as the head of cluster.yaml does, and return the name of the function."""
    (name,) = re.findall(r"RAY_AUTOSCALER_UTILIZATION_SCORER=([\w.]+)", aws["head_start_ray_commands"][-1])
    assert name == f"{spot_fallback.__name__}.{spot_fallback.prefer_available.__name__}"
    monkeypatch.setenv("RAY_AUTOSCALER_UTILIZATION_SCORER", name)
    return name


REPLICAS = [{"GPU": 1.0, "CPU": 1.0}] * 2


@pytest.mark.parametrize("requested", [False, True])
def test_spot_machines_come_first(aws: dict[str, Any], our_choice: str, requested: bool) -> None:
    assert launched(aws, set(), REPLICAS, requested=requested) == {"gpu_spot": 2}


@pytest.mark.parametrize("requested", [False, True])
def test_refused_spot_machines_are_replaced_by_some_on_demand(
    aws: dict[str, Any], our_choice: str, requested: bool
) -> None:
    assert launched(aws, {"gpu_spot"}, REPLICAS, requested=requested) == {"gpu_on_demand": 2}


def test_when_all_types_are_refused_spot_machines_are_asked_for_again(aws: dict[str, Any], our_choice: str) -> None:
    assert launched(aws, {"gpu_spot", "gpu_on_demand"}, REPLICAS) == {"gpu_spot": 2}


def test_work_that_fits_no_machine_launches_none(aws: dict[str, Any], our_choice: str) -> None:
    assert launched(aws, set(), [{"GPU": 3.0}]) == {}


def test_ray_alone_does_not_fall_back(aws: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # When this fails, Ray has learnt it, and greater_ray/cluster/spot_fallback.py can go.
    monkeypatch.delenv("RAY_AUTOSCALER_UTILIZATION_SCORER", raising=False)
    assert launched(aws, {"gpu_spot"}, REPLICAS) == {"gpu_spot": 2}


# -- Kubernetes and Slurm


def test_the_rayjob_has_what_kuberay_asks_for() -> None:
    job = load(DEPLOY / "kuberay-rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*)", job["metadata"]["generateName"])
    spec = job["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["submissionMode"] in {"K8sJobMode", "HTTPMode", "SidecarMode"}
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == constraint("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] == workers["replicas"] == 0 < workers["maxReplicas"]
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], workers)]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    assert len(images) == 1
    assert images.pop() in (DEPLOY / "Dockerfile").read_text()
    for pod in pods:
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert container["resources"]["requests"] == container["resources"]["limits"]
    out = spec["entrypoint"].partition("--out ")[2]
    assert out.startswith(container["volumeMounts"][0]["mountPath"])
    script = re.search(r"python (\S+\.py)", spec["entrypoint"])
    assert script is not None
    assert f"COPY --chown=ray pipelines/bbh_grid.py {script[1]}" in (DEPLOY / "Dockerfile").read_text()


def test_the_slurm_script_is_a_script_for_bash_and_its_options_come_first() -> None:
    file = DEPLOY / "slurm.sbatch"
    done = subprocess.run(["bash", "-n", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = file.read_text().splitlines()
    # sbatch stops reading its options at the first command.
    first = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    assert [line for line in lines[first:] if line.startswith("#SBATCH")] == []
    assert {"#SBATCH --exclusive", "#SBATCH --ntasks-per-node=1"} <= set(lines[:first])


def test_the_slurm_script_without_a_folder_tells_its_usage() -> None:
    done = subprocess.run(["bash", str(DEPLOY / "slurm.sbatch")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: sbatch" in done.stderr


def test_the_slurm_script_starts_ray_on_all_nodes_and_the_grid_on_the_first(tmp_path: Path) -> None:
    """Stand-ins for Slurm's three commands show what would be run on the nodes."""
    (tmp_path / "scontrol").write_text("#!/bin/sh\nprintf 'node1\\nnode2\\n'\n")
    call = '#!/bin/sh\ncase "$*" in *hostname*) echo "10.0.0.1 10.1.0.1";; *) printf "%s\\n" "$RAY_AUTH_MODE" '
    (tmp_path / "srun").write_text(call + '"${#RAY_AUTH_TOKEN}" "$@";; esac\n')
    for name in ("scontrol", "srun"):
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": "12345", "SLURM_JOB_NUM_NODES": "2"}
    env = {"PATH": f"{tmp_path}:{Path(sys.executable).parent}:/usr/bin:/bin", "SLURM_CPUS_PER_TASK": "8", **slurm}
    command = ["bash", str(DEPLOY / "slurm.sbatch"), "/shared/bbh", "--preset", "paper"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    mode, length, *words = done.stdout.splitlines()
    assert (mode, length) == ("token", "64")
    ray = words[words.index("ray") :]
    split = ray.index("--")
    assert " ".join(ray[:split]) == "ray symmetric-run --address 10.0.0.1:22345 --min-nodes 2 --num-cpus=8"
    pipeline = "python pipelines/bbh_grid.py --address auto --out /shared/bbh --preset paper"
    assert " ".join(ray[split + 1 :]) == pipeline
