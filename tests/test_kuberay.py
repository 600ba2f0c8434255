"""The manifest for Kubernetes has the fields that KubeRay requires, and all pods share one volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

PATH = Path(__file__).parents[1] / "docs" / "how-to" / "kuberay.yaml"


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    return {document["kind"]: document for document in yaml.safe_load_all(PATH.read_text(encoding="utf-8"))}


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_the_cluster_has_the_required_fields(documents: dict[str, Any]) -> None:
    cluster = documents["RayCluster"]
    assert cluster["apiVersion"] == "ray.io/v1"
    assert cluster["metadata"]["name"]
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    version = tuple(int(part) for part in cluster["spec"]["rayVersion"].split("."))
    assert version >= (2, 52, 0), "tokens need it, and KubeRay then needs the version"
    assert all(isinstance(value, str) for value in cluster["spec"]["headGroupSpec"]["rayStartParams"].values())
    for group in cluster["spec"]["workerGroupSpecs"]:
        assert {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"} <= group.keys()
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for pod in pods(cluster):
        for container in pod["containers"]:
            assert {"name", "image", "resources"} <= container.keys()
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert all(isinstance(entry["value"], str) for entry in container["env"])


def test_all_pods_share_one_volume_at_one_path(documents: dict[str, Any]) -> None:
    claim = documents["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(documents["RayCluster"]):
        (volume,) = pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        for container in pod["containers"]:
            assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/shared"}]
