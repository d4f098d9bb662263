"""requests: one session and thread for each connection. Arguments: URL, file of the authority."""

import sys
from concurrent.futures import ThreadPoolExecutor

import requests

from tests.e2e.tls.plan import CONNECTIONS, HEADERS, build_requests


def converse(connection: int) -> None:
    url, authority = sys.argv[1:]
    with requests.Session() as session:
        session.verify = authority
        session.trust_env = False  # else REQUESTS_CA_BUNDLE is trusted instead
        for asked in build_requests(connection):
            answer = session.request(
                asked.method, url + asked.path, data=asked.body, headers=HEADERS, timeout=60
            )
            assert (answer.status_code, answer.text) == (200, asked.answer)


with ThreadPoolExecutor(CONNECTIONS) as pool:
    list(pool.map(converse, range(CONNECTIONS)))
