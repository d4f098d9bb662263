"""A gRPC service without generated code, on a free port that it prints: messages are bytes as they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE = "shop.v1.Orders"
arrived: list[bytes] = []
UNLIMITED = (("grpc.max_receive_message_length", -1),)


def echo(request: bytes, context: grpc.ServicerContext) -> bytes:
    """Answer with the request and with metadata of both kinds."""
    context.send_initial_metadata((("x-initial", "1"),))
    context.set_trailing_metadata((("x-trailing-bin", b"\0\1\2"),))
    return request


def split(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    """Answer with one message for each byte."""
    for byte in request:
        yield bytes([byte])


def join(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    """Answer with all messages as one."""
    return b"".join(requests)


def talk(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    """Answer each message with itself."""
    yield from requests


def abort(request: bytes, context: grpc.ServicerContext) -> bytes:
    """End with the status that the request names."""
    context.abort(grpc.StatusCode[request.decode()], "as asked for: ☃")
    raise AssertionError


def wait(request: bytes, context: grpc.ServicerContext) -> bytes:
    """Answer when the caller has gone."""
    gone = threading.Event()
    context.add_callback(gone.set)
    arrived.append(request)
    gone.wait()
    return request


def list_arrived(request: bytes, context: grpc.ServicerContext) -> bytes:
    """Answer with the requests of `Wait` that have arrived, a line each."""
    return b"\n".join(arrived)


def follow(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    """Answer at once, and with nothing more until the caller has gone, as Health/Watch does."""
    gone = threading.Event()
    context.add_callback(gone.set)
    yield request
    gone.wait()


HANDLERS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Split": grpc.unary_stream_rpc_method_handler(split),
    "Join": grpc.stream_unary_rpc_method_handler(join),
    "Talk": grpc.stream_stream_rpc_method_handler(talk),
    "Abort": grpc.unary_unary_rpc_method_handler(abort),
    "Follow": grpc.unary_stream_rpc_method_handler(follow),
    "ListArrived": grpc.unary_unary_rpc_method_handler(list_arrived),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
}


def main() -> None:
    """Serve until killed."""
    server = grpc.server(ThreadPoolExecutor(16), options=UNLIMITED)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, HANDLERS),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)  # noqa: T201 - how the test learns the port
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
