"""A GraphQL server for the end-to-end tests: `python -m tests.e2e.servers.graphql_server ADDRESS`.

The first line of output is the port. It executes by graphql-core: GET with parameters, POST with JSON, a
batch of it, or a document as body.
"""

import json
import sys
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from graphql import build_schema, graphql_sync

from tests.e2e.servers.threaded_server import Handler as AnsweringHandler

SCHEMA = build_schema(
    """
    type Query { hero(episode: Int): Hero, broken: Int }
    type Mutation { rename(name: String!): Hero }
    type Hero { name: String, friends: [Hero] }
    """
)


class Root:
    """Resolves the fields of both operation types."""

    def hero(self, _info: Any, episode: int = 4) -> dict[str, Any]:
        return {"name": f"Luke {episode}", "friends": [{"name": "Leia"}, {"name": "Han"}]}

    def rename(self, _info: Any, name: str) -> dict[str, Any]:
        return {"name": name, "friends": []}

    def broken(self, _info: Any) -> int:
        raise ValueError("out of order")


def execute(members: dict[str, Any]) -> dict[str, Any]:
    result = graphql_sync(
        SCHEMA,
        members["query"],
        Root(),
        variable_values=members.get("variables"),
        operation_name=members.get("operationName"),
    )
    return dict(result.formatted)


class Handler(AnsweringHandler):
    def do_GET(self) -> None:  # noqa: N802 (the name is the library's)
        self.respond(execute(dict(parse_qsl(urlsplit(self.path).query))))

    def do_POST(self) -> None:  # noqa: N802 (the name is the library's)
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Type"] == "application/graphql":
            self.respond(execute({"query": content.decode()}))
            return
        asked = json.loads(content)
        self.respond([execute(each) for each in asked] if isinstance(asked, list) else execute(asked))

    def respond(self, value: Any) -> None:
        self.answer(json.dumps(value).encode(), "application/graphql-response+json")


def main() -> None:
    server = ThreadingHTTPServer((sys.argv[1], 0), Handler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
