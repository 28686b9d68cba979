"""docs/deploy: what is there can be used as it is, as far as that can be told without the machines it is for.

The rule: every file is read by somebody else's parser, Kubernetes' objects are held against its published schema, every
``trio-gw`` command line is parsed by the command itself, and what two files say of one thing is compared.
"""

import configparser
import inspect
import io
import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
from dockerfile_parse import DockerfileParser

from inferencegw.cli.app import app
from inferencegw.config import GatewayConfig, ReplicaConfig
from inferencegw.gateway.app import GOODBYE_TIMEOUT, HEALTH_NAMES
from inferencegw.gateway.managers.kubernetes import STOP_MARGIN, KubernetesManager, Target
from inferencegw.gateway.updater import LAST_ACT
from inferencegw.rpc.health import LIVENESS
from inferencegw.v1 import replica_pb2

DEPLOY: Final = Path(__file__).resolve().parents[2] / "docs" / "deploy"

GRPC: Final = 8080
GOSSIP: Final = 18080
HTTP: Final = 29000

REPLICA: Final = replica_pb2.DESCRIPTOR.services_by_name["LLMReplica"].full_name


def parsed(arguments: Sequence[str]) -> dict[str, Any]:
    """What ``trio-gw`` makes of a command line; an error where it would be one."""
    _, bound, _ = app.parse_args(list(arguments), exit_on_error=False, print_error=False)
    return dict(bound.arguments)


def objects() -> dict[str, dict[str, Any]]:
    """Every object of Kubernetes, by kind and name."""
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    found = [one for file in files for one in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in found}


OBJECTS: Final = objects()
WORKLOADS: Final = {"gateway": OBJECTS["Deployment/gateway"], "replica": OBJECTS["StatefulSet/replica"]}
COMPOSE: Final = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
UNIT: Final = configparser.ConfigParser(interpolation=None, strict=True)
UNIT.optionxform = str  # type: ignore[assignment,method-assign] # systemd's names have capitals
UNIT.read(DEPLOY / "trio-gw.service", encoding="utf-8")
IMAGE: Final = DockerfileParser(fileobj=io.BytesIO((DEPLOY / "Containerfile").read_bytes()))


def container(name: str) -> dict[str, Any]:
    """The one container of a workload."""
    [only] = WORKLOADS[name]["spec"]["template"]["spec"]["containers"]
    return dict(only)


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every ``trio-gw`` command line there is, and where."""
    for name in WORKLOADS:
        yield f"kubernetes/{name}", [argument.replace("$(POD_NAME)", "p") for argument in container(name)["args"]]
    for name, service in COMPOSE["services"].items():
        yield f"compose/{name}", shlex.split(service["command"])
    yield "systemd", shlex.split(UNIT["Service"]["ExecStart"])[1:]


LINES: Final = dict(command_lines())


@pytest.mark.parametrize("where", LINES)
def test_a_command_line_is_one_that_the_command_takes_and_says_the_usual_ports(where: str) -> None:
    """The parser's own word for it; the ports are the same everywhere, so that one file's fits the other's."""
    arguments = parsed(LINES[where])
    assert (arguments["port"], arguments["gossip_port"]) == (GRPC, GOSSIP)
    assert arguments.get("http_port") == (HTTP if LINES[where][0] == "run" else None)
    assert {address.rpartition(":")[2] for address in arguments["join"]} == {str(GOSSIP)}
    assert arguments["keyring_file"]  # nothing is shown that gossips in clear


def test_the_image_runs_the_command_as_somebody_who_is_not_root() -> None:
    """The last stage counts: its user is a number above 0, and the ports it names are those of the command lines."""
    last = IMAGE.structure[max(i for i, line in enumerate(IMAGE.structure) if line["instruction"] == "FROM") :]
    said = {line["instruction"]: line["value"] for line in last}
    assert re.fullmatch(r"([1-9]\d*):([1-9]\d*)", said["USER"])
    assert said["EXPOSE"].split() == [f"{GRPC}/tcp", f"{GOSSIP}/udp", f"{HTTP}/tcp"]
    assert said["STOPSIGNAL"] == "SIGTERM"
    [program] = json.loads(said["ENTRYPOINT"])
    assert program == shlex.split(UNIT["Service"]["ExecStart"])[0]


def test_the_image_is_built_of_what_the_package_is_and_of_nothing_else() -> None:
    """Not of the folder as it is: a keyring is in it, where compose.yaml has one put it, and would be in a layer."""
    copied = [
        line["value"].split()
        for line in IMAGE.structure
        if line["instruction"] == "COPY" and "--from" not in line["value"]
    ]
    sources = {source for *its, _ in copied for source in its}
    root = DEPLOY.parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sources == {"pyproject.toml", project["readme"], *project["license-files"], "inferencegw"}
    assert all((root / source).exists() for source in sources)
    [keyring] = {secret["file"] for secret in COMPOSE["secrets"].values()}
    path = (DEPLOY / keyring).resolve().relative_to(root)
    assert f"/{path}" in (root / ".gitignore").read_text(encoding="utf-8").split()


def test_everybody_runs_one_image_as_its_user() -> None:
    """What compose builds is what it and Kubernetes run."""
    user = {line["instruction"]: line["value"] for line in IMAGE.structure}["USER"]
    services = COMPOSE["services"].values()
    assert {service["user"] for service in services} == {user}
    images = {service["image"] for service in services} | {container(name)["image"] for name in WORKLOADS}
    assert len(images) == 1
    build = COMPOSE["services"]["g1"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Containerfile"
    for workload in WORKLOADS.values():
        context = workload["spec"]["template"]["spec"]["securityContext"]
        assert (context["runAsNonRoot"], str(context["runAsUser"])) == (True, user.partition(":")[0])


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_is_as_kubernetes_published_schema_has_it(name: str) -> None:
    """Strictly: a misspelt field, which the server would drop, is an error."""
    kubernetes_validate.validate(OBJECTS[name], kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("name", WORKLOADS)
def test_probes_ask_for_what_the_server_tells(name: str) -> None:
    """Readiness by the service that is called, liveness by the name that has nothing to do with it."""
    one = container(name)
    readiness, liveness = (one[f"{kind}Probe"]["grpc"] for kind in ("readiness", "liveness"))
    assert readiness["service"] == {"gateway": HEALTH_NAMES[1], "replica": REPLICA}[name]
    assert liveness["service"] == LIVENESS
    ports = {port["name"]: (port["containerPort"], port.get("protocol", "TCP")) for port in one["ports"]}
    served = {"grpc": (GRPC, "TCP"), "gossip": (GOSSIP, "UDP")}
    assert ports == (served | {"http": (HTTP, "TCP")} if name == "gateway" else served)
    assert readiness["port"] == liveness["port"] == GRPC


def test_services_and_budgets_select_pods_that_there_are() -> None:
    """The headless one selects all of them, for every one may be a seed, and those that are not ready yet too."""
    labels = {name: one["spec"]["template"]["metadata"]["labels"] for name, one in WORKLOADS.items()}

    def selected(selector: dict[str, str]) -> list[str]:
        return [name for name, its in labels.items() if selector.items() <= its.items()]

    gossip, gateway = (OBJECTS[f"Service/{name}"]["spec"] for name in ("gossip", "gateway"))
    assert (gossip["clusterIP"], gossip["publishNotReadyAddresses"]) == ("None", True)
    assert selected(gossip["selector"]) == ["gateway", "replica"]
    assert selected(gateway["selector"]) == ["gateway"]
    assert [(port["port"], port["protocol"]) for port in gossip["ports"]] == [(GOSSIP, "UDP")]
    assert [port["port"] for port in gateway["ports"]] == [GRPC]
    for name, workload in WORKLOADS.items():
        assert selected(workload["spec"]["selector"]["matchLabels"]) == [name]
        assert selected(OBJECTS[f"PodDisruptionBudget/{name}"]["spec"]["selector"]["matchLabels"]) == [name]
        assert parsed(LINES[f"kubernetes/{name}"])["join"] == ("gossip.llm:18080",)
    assert WORKLOADS["replica"]["spec"]["serviceName"] == "gossip"


def test_there_is_time_for_a_drain_everywhere() -> None:
    """Before anything is killed: what precedes the drain, the drain, a rollout's last act and the goodbyes."""
    of_gateway = GatewayConfig().drain_timeout + LAST_ACT + 2 * GOODBYE_TIMEOUT
    of_replica = ReplicaConfig().drain_timeout + 2 * GOODBYE_TIMEOUT
    pause = container("gateway")["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = {name: one["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] for name, one in WORKLOADS.items()}
    assert grace["gateway"] > pause + of_gateway
    assert grace["replica"] > of_replica
    assert {service["stop_grace_period"] for service in COMPOSE["services"].values()} == {"45s"}
    assert UNIT["Service"]["TimeoutStopSec"] == "45"
    assert max(of_gateway, of_replica) < 45
    assert STOP_MARGIN > 0  # a rollout's patience is the grace period and this


def test_the_gateway_can_roll_the_replicas_that_there_are() -> None:
    """Its manager's name says which StatefulSet, container and variable; and that StatefulSet waits to be told."""
    arguments = parsed(LINES["kubernetes/gateway"])
    target = Target.parse(arguments["manager"].removeprefix("kubernetes:"))
    replica = WORKLOADS["replica"]
    assert (target.namespace, target.statefulset) == (replica["metadata"]["namespace"], replica["metadata"]["name"])
    assert target.container == container("replica")["name"]
    assert target.env in {variable["name"] for variable in container("replica")["env"]}
    assert f"--model-version=$({target.env})" in container("replica")["args"]
    assert replica["spec"]["updateStrategy"] == {"type": "OnDelete"}


def test_the_role_allows_what_the_manager_asks_for_and_nothing_else() -> None:
    """Verb by verb, in the API's words, of what is in its source."""
    source = inspect.getsource(KubernetesManager)
    asked = set(re.findall(r'_ask\("([A-Z]+)", (self\._statefulset_path|path)', source))
    asked |= {("PATCH", path) for path in re.findall(r"_patch\((self\._statefulset_path|path),", source)}
    resources = {"self._statefulset_path": "statefulsets", "path": "pods"}
    needed = {(resources[path], method.lower()) for method, path in asked}
    allowed = {
        (resource, verb)
        for rule in OBJECTS["Role/replica-manager"]["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == needed
    [subject] = OBJECTS["RoleBinding/gateway"]["subjects"]
    assert subject["name"] == WORKLOADS["gateway"]["spec"]["template"]["spec"]["serviceAccountName"]
    assert OBJECTS["RoleBinding/gateway"]["roleRef"]["name"] == "replica-manager"


def test_the_unit_waits_for_the_ready_word_and_watches_the_event_loop() -> None:
    """``Type=notify``: see :mod:`inferencegw.cli._notify`; a usage error (status 2) is not tried again."""
    service = UNIT["Service"]
    assert (service["Type"], service["NotifyAccess"], service["WatchdogSec"]) == ("notify", "main", "10")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert (service["KillMode"], service["RestartPreventExitStatus"]) == ("mixed", "2")
    assert service["User"] not in {"", "root"}


def test_the_unit_is_started_again_for_as_long_as_it_takes() -> None:
    """By default systemd gives up after five starts in ten seconds, which is where a port is taken for a while."""
    assert UNIT["Service"]["Restart"] == "always"
    assert UNIT["Unit"]["StartLimitIntervalSec"] == "0"
