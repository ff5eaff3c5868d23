"""What the manifests under k8s/ promise, held offline. docs/kubernetes.md gives the reasons."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import PurePosixPath

import kubernetes_validate
import pytest
import yaml

import outrider
from tests.packaging.manifests import (
    APP,
    CONFIG,
    DEPLOYMENT,
    EXAMPLE,
    K8S,
    KINDS,
    MANIFESTS,
    MERGED,
    MOUNTS,
    PATCH,
    POD,
    SIDECAR,
    VERSIONS,
    VOLUMES,
    Node,
    items,
    load,
)

RESTRICTED = {
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
# The schemas of kubernetes-validate have no enumerations and no quantities.
ENUMS = {
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "medium": {"", "Memory"},
    "protocol": {"TCP", "UDP", "SCTP"},
    "restartPolicy": {"Always"},
    "terminationMessagePolicy": {"File", "FallbackToLogsOnError"},
}
UNITS = {None: 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
BOTH = pytest.mark.parametrize("container", [SIDECAR, APP], ids=["sidecar", "app"])


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number; fails where it is not one."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m|k|M|G|Ki|Mi|Gi)?", text)
    assert match, f"{text!r} is not a quantity"
    return float(match[1]) * UNITS[match[2]]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS)
def test_manifest_fits_the_schema(path: str, version: str) -> None:
    """A manifest has only fields that Kubernetes knows, of the types that it knows."""
    kubernetes_validate.validate(load(path), version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_patched_pod_fits_the_schema(version: str) -> None:
    """What the component adds is valid in the place where it adds it."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ask"}, "spec": MERGED}
    kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.parametrize("path", [*MANIFESTS, "component/sidecar.yaml"])
def test_enumerations_have_values_that_exist(path: str) -> None:
    """A misspelt constant fails here, not in the cluster."""
    for key, value in items(load(path)):
        assert key not in ENUMS or value in ENUMS[key], key


def test_every_file_has_its_place() -> None:
    """Each kustomization names files that exist, and no manifest is left out."""
    named = set()
    for kustomization in K8S.rglob("kustomization.yaml"):
        document = yaml.safe_load(kustomization.read_text())
        paths = document.get("resources", []) + document.get("components", [])
        paths += [patch["path"] for patch in document.get("patches", [])]
        paths += [file for made in document.get("configMapGenerator", []) for file in made["files"]]
        named |= {(kustomization.parent / path).resolve() for path in paths}
    assert all(path.exists() for path in named)
    files = {path for path in K8S.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in files if path.name != "kustomization.yaml"} <= named


def test_component_patches_every_kind_of_workload_that_asks() -> None:
    """The sidecar goes to labelled workloads of all kinds that hold a pod template at the same place."""
    kustomization = load("component/kustomization.yaml")
    assert kustomization["kind"] == "Component"
    target = kustomization["patches"][0]["target"]
    assert all(re.fullmatch(target["kind"], kind) for kind in KINDS)
    key, _, value = target["labelSelector"].partition("=")
    assert DEPLOYMENT["metadata"]["labels"][key] == value


def test_sidecar_is_native() -> None:
    """It starts before the app's containers and ends after them."""
    assert SIDECAR["restartPolicy"] == "Always"
    assert "containers" not in PATCH


def test_app_waits_for_the_sidecar() -> None:
    """The app starts when the sidecar answers, for which a slow node has half a minute or more."""
    probe = SIDECAR["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 30


@pytest.mark.parametrize("name", ["startupProbe", "livenessProbe"])
def test_kubelet_can_reach_the_probes(name: str) -> None:
    """Probes go to a numeric port that is open on the pod's address, where only probes and metrics are."""
    address = CONFIG.admin.address
    assert address
    assert ip_address(address.host).is_unspecified
    assert SIDECAR[name]["httpGet"] == {"path": "/livez", "port": address.port}
    assert [declared["containerPort"] for declared in SIDECAR["ports"]] == [address.port]


def test_outage_of_a_provider_leaves_the_app_in_its_service() -> None:
    """The sidecar has no say in the pod's readiness: `/readyz` follows providers that all replicas share."""
    assert "readinessProbe" not in SIDECAR


def test_api_is_not_on_the_network() -> None:
    """Only containers of the pod can call: TCP on loopback, and a Unix socket."""
    assert CONFIG.server.address
    assert CONFIG.server.address.loopback
    assert not CONFIG.server.insecure


def test_socket_is_shared_with_the_app() -> None:
    """The socket lies in a volume of both containers, and the app is in its group."""
    socket = PurePosixPath(CONFIG.server.unix_socket or "")
    assert str(socket.parent) == MOUNTS["outrider-socket"]["mountPath"]
    assert "emptyDir" in VOLUMES["outrider-socket"]
    mount = next(mount for mount in APP["volumeMounts"] if mount["name"] == "outrider-socket")
    assert {"name": "OUTRIDER_ADDRESS", "value": f"unix://{mount['mountPath']}/{socket.name}"} in APP["env"]
    assert POD["securityContext"]["fsGroup"] == SIDECAR["securityContext"]["runAsGroup"]


@BOTH
def test_container_is_confined(container: Node) -> None:
    """It meets the restricted Pod Security Standard, and its root is read-only."""
    context = container["securityContext"]
    assert context | RESTRICTED == context
    assert context["runAsUser"] > 0


def test_sidecar_runs_as_the_user_of_the_image() -> None:
    """Manifest and Dockerfile agree on the user."""
    context = SIDECAR["securityContext"]
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}\n" in (K8S.parent / "Dockerfile").read_text()


def test_no_service_account_token_is_mounted() -> None:
    """The sidecar never sees the app's token: Kubernetes mounts none where something is mounted."""
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert [m["name"] for m in SIDECAR["volumeMounts"] if m["mountPath"] == path] == ["outrider-no-token"]
    assert "emptyDir" in VOLUMES["outrider-no-token"]
    assert POD["automountServiceAccountToken"] is False
    assert load("example/service-account.yaml")["automountServiceAccountToken"] is False


@BOTH
def test_image_is_the_release(container: Node) -> None:
    """The image has a version, and it is this one."""
    assert container["image"] == f"outrider:{outrider.__version__}"


@BOTH
def test_resources_are_bounded(container: Node) -> None:
    """Memory has a limit at or above what is requested; CPU is requested and never throttled."""
    resources = container["resources"]
    assert quantity(resources["requests"]["cpu"]) > 0
    assert 0 < quantity(resources["requests"]["memory"]) <= quantity(resources["limits"]["memory"])
    assert "cpu" not in resources["limits"]
    assert all(quantity(v["emptyDir"]["sizeLimit"]) for v in VOLUMES.values() if "emptyDir" in v)


def test_keys_are_files_that_may_change() -> None:
    """Each key is a file of a mounted Secret, whose whole volume is mounted: a `subPath` is never updated."""
    secret, mount = VOLUMES["outrider-keys"]["secret"], MOUNTS["outrider-keys"]
    files = [provider.api_key_file for provider in CONFIG.providers.values()]
    assert {str(file.parent) for file in files if file} == {mount["mountPath"]}
    assert None not in files
    assert mount.keys() == {"name", "mountPath", "readOnly"}
    assert secret["optional"] is True
    assert secret["defaultMode"] & 0o777 == 0o444


@pytest.mark.parametrize("path", [*MANIFESTS, "component/sidecar.yaml", "base/outrider.yaml"])
def test_no_secret_is_written_down(path: str) -> None:
    """No manifest holds a Secret, or a value where a key would stand."""
    document = load(path)
    assert document.get("kind") != "Secret"
    assert not {"api_key", "stringData", "token"} & {key for key, _ in items(document)}


def test_every_mount_has_its_volume() -> None:
    """Mounts name volumes of the pod, and the component's volumes all carry its name."""
    names = [volume["name"] for volume in MERGED["volumes"]]
    assert len(names) == len(set(names))
    assert {m["name"] for m in SIDECAR["volumeMounts"]} == set(VOLUMES)
    assert {m["name"] for m in APP["volumeMounts"]} <= set(names)
    assert all(name.startswith("outrider-") for name in VOLUMES)


def test_pod_has_time_to_end() -> None:
    """The pod's one budget covers the app's sleep and longest answer, and the sidecar's drain after them."""
    drain = CONFIG.server.drain
    sleep = APP["lifecycle"]["preStop"]["sleep"]["seconds"]
    app = sleep + EXAMPLE["ANSWER_SECONDS"]
    assert POD["terminationGracePeriodSeconds"] >= app + drain.delay + drain.grace
    assert "lifecycle" not in SIDECAR


def test_config_is_where_the_command_reads_it() -> None:
    """The ConfigMap that the base makes is mounted, and its file is the one that `serve` is given."""
    made = load("base/kustomization.yaml")["configMapGenerator"][0]
    assert VOLUMES["outrider-config"]["configMap"] == {"name": made["name"]}
    assert SIDECAR["args"] == [
        "serve",
        "--config",
        f"{MOUNTS['outrider-config']['mountPath']}/{made['files'][0]}",
    ]


def test_selectors_find_the_pod() -> None:
    """Deployment, Service and NetworkPolicy select the example's pods, and their ports exist."""
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    service, policy = load("example/service.yaml")["spec"], load("example/network-policy.yaml")["spec"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
    assert service["selector"] == policy["podSelector"]["matchLabels"] == labels
    assert service["ports"][0]["targetPort"] == APP["ports"][0]["name"]
    assert POD["serviceAccountName"] == load("example/service-account.yaml")["metadata"]["name"]


def test_metrics_are_for_the_monitoring_alone() -> None:
    """The network policy opens the admin port only to a named namespace."""
    (port,) = SIDECAR["ports"]
    for rule in load("example/network-policy.yaml")["spec"]["ingress"]:
        assert rule.get("from") or port["containerPort"] not in [opened["port"] for opened in rule["ports"]]
