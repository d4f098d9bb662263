"""The server of `threaded_server`, with a header of the PROXY protocol in front of each connection.

It is started in the same way. It reads as much as comes at once, so header and request are mostly in one
call. What the header says is not used.
"""

from tests.e2e.servers import threaded_server

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


class Handler(threaded_server.Handler):
    def setup(self) -> None:
        super().setup()
        beginning = self.rfile.read(6)
        if beginning == b"PROXY ":
            self.rfile.readline()
        else:
            rest = self.rfile.read(10)
            assert beginning + rest[:6] == _SIGNATURE
            self.rfile.read(int.from_bytes(rest[8:], "big"))


if __name__ == "__main__":
    threaded_server.main(Handler)
