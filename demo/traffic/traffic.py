"""Shoppers at the gateway, without end: orders, products, mistakes, and reports that take their time."""

import itertools
import json
import secrets
import threading
import time
from http.client import HTTPConnection, HTTPException

SHOPPERS = 2
PAUSE_SECONDS = 0.3
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLW9mLXRoZS1kZW1v"

REQUESTS = (
    ("POST", "/orders", {"product": 7, "quantity": 2, "card": "4111 1111 1111 1111"}),
    ("GET", "/products", None),
    ("GET", "/products/12", None),
    ("POST", "/orders", {"product": 12, "quantity": 1, "password": "correct horse battery staple"}),
    ("GET", "/products/4711", None),  # 404
    ("POST", "/orders", {"quantity": 1}),  # 422
    ("GET", "/orders/report?api_key=k-123456", None),  # slow
    ("GET", "/products/13", None),  # 500 behind a 502
)


def shop() -> None:
    """Send one request after the other, and go on where one fails."""
    for method, path, content in itertools.cycle(REQUESTS):
        time.sleep(PAUSE_SECONDS)
        connection = HTTPConnection("gateway", 80, timeout=10)
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            # What an instrumented client would send. Every span of the request joins this trace.
            "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
        }
        body = None
        if content is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(content)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            response.read()
            print(response.status, method, path, flush=True)
        except (OSError, HTTPException) as error:
            print(error, method, path, flush=True)
        connection.close()


if __name__ == "__main__":
    for _ in range(SHOPPERS):
        threading.Thread(target=shop).start()
