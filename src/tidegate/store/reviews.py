"""Who may do what: whoever has the token may do everything, and that is all there is to say.

`kubectl auth can-i` and `kubectl auth whoami` create these objects; they are answered, not kept.
"""

from typing import Any, Final

USER: Final = "tidegate"

REVIEWS: Final[dict[str, dict[str, Any]]] = {
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": {
        "allowed": True,
        "reason": "the token allows everything",
    },
    "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews": {
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        "incomplete": False,
    },
    "/apis/authentication.k8s.io/v1/selfsubjectreviews": {
        "userInfo": {"username": USER, "groups": ["system:authenticated"]}
    },
}
"""The answer by the path under which the question is created."""


def review(path: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Return `asked` with its answer."""
    return {**asked, "metadata": asked.get("metadata") or {}, "status": REVIEWS[path]}
