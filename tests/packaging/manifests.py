"""The manifests under k8s/, parsed, and their parts by name."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import yaml

from outrider.config import load as load_config

K8S = Path(__file__).parents[2] / "k8s"
# The oldest Kubernetes that the manifests support, for `preStop.sleep`, and the newest whose schema is here.
VERSIONS = ["1.30", "1.37"]
# Workloads that hold their pod template at the same place.
KINDS = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"]

Node = dict[str, Any]


def load(path: str) -> Node:
    """The one document of a file."""
    document = yaml.safe_load((K8S / path).read_text())
    assert isinstance(document, dict)
    return document


def items(node: object) -> list[tuple[str, Any]]:
    """Every key with its value, at every depth."""
    if isinstance(node, dict):
        return [pair for key, value in node.items() for pair in [(key, value), *items(value)]]
    return [pair for value in node for pair in items(value)] if isinstance(node, list) else []


PATCH: Node = load("component/sidecar.yaml")["spec"]["template"]["spec"]
SIDECAR: Node = PATCH["initContainers"][0]
ENV: dict[str, str] = {variable["name"]: variable["value"] for variable in SIDECAR["env"]}
MOUNTS: dict[str, Node] = {mount["name"]: mount for mount in SIDECAR["volumeMounts"]}
VOLUMES: dict[str, Node] = {volume["name"]: volume for volume in PATCH["volumes"]}
DEPLOYMENT = load("example/deployment.yaml")
POD: Node = DEPLOYMENT["spec"]["template"]["spec"]
APP: Node = POD["containers"][0]
# The configuration as the sidecar reads it.
CONFIG = load_config(K8S / "base/outrider.yaml", ENV)
# The names of the example's app.
EXAMPLE = runpy.run_path(str(K8S / "example/app.py"))
# What Kubernetes takes as it stands: not the patch, and not what only kustomize or Outrider reads.
MANIFESTS = [
    str(path.relative_to(K8S))
    for path in sorted(K8S.rglob("*.yaml"))
    if path.name not in {"kustomization.yaml", "sidecar.yaml", "outrider.yaml"}
]
# The pod that the example and the component make together.
MERGED: Node = POD | {"initContainers": PATCH["initContainers"], "volumes": POD["volumes"] + PATCH["volumes"]}
