"""Orders: takes one, asks the catalogue for the product, and answers with the price."""

import json
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_SECONDS = 1.5


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Place an order."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            order = json.loads(body)
            product, quantity = int(order["product"]), int(order["quantity"])
        except (ValueError, KeyError):
            self.answer(422, {"error": "an order names a product and a quantity"})
            return
        catalogue = HTTPConnection("catalogue", 8080, timeout=10)
        # Passed on as it came; without it every hop is a trace of its own.
        context = {name: value for name, value in self.headers.items() if name.lower() == "traceparent"}
        catalogue.request("GET", f"/products/{product}", headers=context)
        response = catalogue.getresponse()
        found = json.load(response)
        catalogue.close()
        if response.status != 200:
            self.answer(response.status, found)
            return
        total = quantity * found["price"]
        self.answer(201, {"order": 1000 + product, "total": total, "stock": found["stock"]})

    def do_GET(self) -> None:
        """Write a report, which takes its time."""
        time.sleep(SLOW_SECONDS)
        self.answer(200, {"report": self.path, "orders": 17})

    def answer(self, status: int, content: object) -> None:
        """Send JSON."""
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: wirespan does."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", 8080), Handler).serve_forever()
