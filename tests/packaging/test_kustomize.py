"""The real kustomize, where there is one, makes of k8s/ what it promises."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import kubernetes_validate
import pytest
import yaml

from tests.packaging.manifests import K8S, KINDS, SIDECAR, VERSIONS, Node

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def kustomize() -> str:
    """The kustomize command."""
    command = shutil.which("kustomize")
    if command is None:
        pytest.skip("kustomize is not on PATH")
    return command


def build(kustomize: str, folder: Path) -> list[Node]:
    """The documents that kustomize makes of a folder."""
    made = subprocess.run([kustomize, "build", folder], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(made.stdout))


@pytest.mark.parametrize("version", VERSIONS)
def test_example_is_built(kustomize: str, version: str) -> None:
    """The documents are valid, and the Deployment has its sidecar and the ConfigMaps by their final names."""
    documents = build(kustomize, K8S / "example")
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)
    (pod,) = [d["spec"]["template"]["spec"] for d in documents if d["kind"] == "Deployment"]
    assert pod["initContainers"] == [SIDECAR]
    mounted = {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
    assert mounted == {d["metadata"]["name"] for d in documents if d["kind"] == "ConfigMap"}


@pytest.mark.parametrize("kind", KINDS)
def test_any_workload_gets_the_sidecar(kustomize: str, kind: str, tmp_path: Path) -> None:
    """It comes before the workload's own init containers; a workload without the label stays as it was."""
    container = {"name": "app", "image": "app:1"}
    pod = {"initContainers": [container | {"name": "first"}], "containers": [container]}
    plain = {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {"name": "plain"},
        "spec": {"template": {"spec": pod}},
    }
    asking = plain | {"metadata": {"name": "asking", "labels": {"outrider.dev/sidecar": "true"}}}
    shutil.copytree(K8S, tmp_path / "k8s")
    (tmp_path / "workloads.yaml").write_text(yaml.safe_dump_all([plain, asking]))
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["workloads.yaml", "k8s/base"], "components": ["k8s/component"]})
    )
    made = {d["metadata"]["name"]: d for d in build(kustomize, tmp_path) if d["kind"] == kind}
    assert made["plain"] == plain
    patched = made["asking"]["spec"]["template"]["spec"]
    assert [c["name"] for c in patched["initContainers"]] == ["outrider", "first"]
    assert patched["containers"] == [container]
