"""A right that was granted to a service account is there once the API server has it in its copy of the roles."""

from collections.abc import Mapping
from typing import Any

import trio

from control_plane.kubernetes.api import KubernetesApi
from tests.support.patience import PATIENCE

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


async def until_allowed(
    api: KubernetesApi, namespace: str, account: str, rule: Mapping[str, Any], *, within: str = ""
) -> None:
    """Return when the account may do the last thing that the rule says: a role's rules come all at once.

    `within` is the namespace of a Role; "" for a ClusterRole.
    """
    resource, _, subresource = rule["resources"][-1].partition("/")
    asked = {
        "namespace": within,
        "verb": rule["verbs"][-1],
        "group": rule["apiGroups"][-1],
        "resource": resource,
        "subresource": subresource,
        "name": rule.get("resourceNames", [""])[-1],
    }
    review = {"spec": {"user": f"system:serviceaccount:{namespace}:{account}", "resourceAttributes": asked}}
    with trio.fail_after(PATIENCE):
        while not (await api.create(REVIEWS, review))["status"]["allowed"]:
            await trio.sleep(0.02)
