"""Whether there is a way to the Hub, or another server, known at once: clients try for a minute or more."""

import socket
import time
from urllib.parse import urlsplit
from urllib.request import getproxies
from urllib.request import proxy_bypass

from huggingface_hub import constants

from speechrows.errors import StoreError

_PATIENCE_S = 4.0  # for a connection
_PAUSE_S = 0.3  # before the second attempt
_PORTS = {"http": 80, "https": 443}
_reached: set[str] = set()  # endpoints that answered once: what fails later is retried by whoever reads


def check_reachable(subject: str) -> None:
    """Refuse to ask a Hub to which there is no way.

    Raises:
        StoreError: it says why, after the `subject` of the sentence.
    """
    why = unreachable()
    if why is not None:
        raise StoreError(f"{subject} the Hub can not be reached ({why}). Get online and run the same again")


def unreachable() -> str | None:
    """Why no connection to the Hub, or to its proxy, can be made; None where one can."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return no_way_to(constants.ENDPOINT)


def no_way_to(endpoint: str) -> str | None:
    """Why no connection to the server of an address, or to its proxy, can be made; None where one can."""
    if endpoint in _reached:
        return None
    server = urlsplit(endpoint)
    proxies = {} if proxy_bypass(server.hostname or "") else getproxies()
    door = urlsplit(proxies.get(server.scheme) or proxies.get("all") or endpoint)
    address = door.hostname or "", door.port or _PORTS.get(door.scheme, 80)
    error = _refusal(address)
    if error is not None:
        time.sleep(_PAUSE_S)
        error = _refusal(address)
    if error is not None:
        return f"{address[0]}: {error.strerror or error}"
    _reached.add(endpoint)
    return None


def _refusal(address: tuple[str, int]) -> OSError | None:
    try:
        socket.create_connection(address, timeout=_PATIENCE_S).close()
    except OSError as error:
        return error
    return None
