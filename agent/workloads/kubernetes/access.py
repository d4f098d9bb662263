"""Address of the Kubernetes API and the agent's credentials for it: the only importer of the client library.

Owns credentials and connections: of a pod's service account, else of a kubeconfig, as the library reads
them. Nothing else of the library is used: its classes for objects take several times what their JSON does.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agent.workloads.kubernetes.api import ApiUnreachableError, KubeconfigError

CONNECT_SECONDS = 5.0
"""Longest wait for a connection: the API server is in the same cluster."""
CONNECTIONS = 8
"""Connections kept: one for each watch, and one for single requests."""
MAX_CAUSE = 300
"""Characters of a cause that a message repeats."""
_CONNECTION = re.compile(r"^\w+\(host=[^)]*\): ")
"""What urllib3 says before the cause: address and port, which the message names already."""
# A node that vanishes says no goodbye; without these a watch would notice after its full length only.
KEEP_ALIVE = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


class Access:
    """An address of the API, and credentials for it as they were when they were read."""

    def __init__(self, kubeconfig: str | None) -> None:
        """Read the credentials; nothing is sent yet. Raises KubeconfigError."""
        # Imported when needed: the library and urllib3 take 10 MB.
        from kubernetes.client import Configuration
        from kubernetes.client.rest import RESTClientObject

        self._configuration: Any = Configuration()
        self._configuration.retries = 0
        self._configuration.connection_pool_maxsize = CONNECTIONS
        self._configuration.socket_options = list(KEEP_ALIVE)
        with _loading(kubeconfig) as load:
            load(client_configuration=self._configuration)
            self._rest: Any = RESTClientObject(self._configuration)

    def request(self, target: str, body: Mapping[str, Any] | None, accept: str, read_seconds: float) -> Any:
        """Send a request and return the open answer, urllib3's. Raises ApiUnreachableError."""
        from kubernetes.client.exceptions import ApiException
        from kubernetes.config import ConfigException
        from urllib3.exceptions import HTTPError

        headers = {"Accept": accept, "User-Agent": "wirespan"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            # A token file is read again here, at most once a minute: kubelet replaces it before it expires.
            for setting in self._configuration.auth_settings().values():
                if setting["value"]:
                    headers[str(setting["key"])] = str(setting["value"])
            answer = self._rest.request(
                "GET" if body is None else "POST",
                self._configuration.host + target,
                headers=headers,
                body=body,
                _request_timeout=(CONNECT_SECONDS, read_seconds),
            )
        except (HTTPError, ApiException, OSError, ConfigException, ValueError) as error:
            raise ApiUnreachableError(f"{self._configuration.host}: {describe_cause(error)}") from None
        return answer.response

    def close(self) -> None:
        """Drop idle connections."""
        self._rest.close()


@contextlib.contextmanager
def _loading(kubeconfig: str | None) -> Iterator[Callable[..., None]]:
    """Yield what loads the access that there is; make a KubeconfigError of whatever goes wrong then."""
    from kubernetes.config import KUBE_CONFIG_DEFAULT_LOCATION, load_incluster_config, load_kube_config

    if kubeconfig is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        place, load = "the pod's service account", load_incluster_config
    else:
        place = kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION
        # Not persisted: the file belongs to its author.
        load = functools.partial(load_kube_config, config_file=kubeconfig, persist_config=False)
    try:
        yield load
    except Exception as error:  # noqa: BLE001 (what a malformed file makes the library raise is anything)
        raise KubeconfigError(
            f"no access to the Kubernetes API from {place}: {describe_cause(error)};"
            " `kubernetes.kubeconfig` names a file, and a pod needs a service account token"
        ) from None


def describe_cause(error: BaseException) -> str:
    """Return the first line of what is at the bottom of an error: urllib3 wraps the cause several times."""
    reason = getattr(error, "reason", None)
    while isinstance(reason, BaseException):
        error, reason = reason, getattr(reason, "reason", None)
    # An ApiException's own text begins with its number.
    text = reason if isinstance(reason, str) and hasattr(error, "status") else str(error)
    text = text.strip() or type(error).__name__
    return _CONNECTION.sub("", text.partition("\n")[0])[:MAX_CAUSE].rstrip(".")
