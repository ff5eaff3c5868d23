"""An example service: POST a question to /, and read the answer as it is made."""

from __future__ import annotations

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

from outrider import v1
from outrider.v1.generation_service_pb2_grpc import GenerationServiceStub

ANSWER_SECONDS = 60


class Service(ThreadingHTTPServer):
    """Holds one channel to the sidecar. Closing it waits for the answers that are being made."""

    daemon_threads = False

    def __init__(self, address: tuple[str, int], channel: grpc.Channel) -> None:
        super().__init__(address, Handler)
        self.outrider = GenerationServiceStub(channel)


class Handler(BaseHTTPRequestHandler):
    """One request, on a thread of its own."""

    protocol_version = "HTTP/1.1"
    timeout = ANSWER_SECONDS  # for a caller who neither sends nor reads
    server: Service

    def do_GET(self) -> None:
        """Whether this process answers."""
        if self.path == "/healthz":
            self._answer(200, "ok\n")
        else:
            self._answer(404, "not found\n")

    def do_POST(self) -> None:
        """Stream the answer's text. Writing to a caller who has left fails, and so cancels the work."""
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        question = v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text=text)])
        call = self.server.outrider.Generate(v1.GenerateRequest(messages=[question]), timeout=ANSWER_SECONDS)
        begun = False
        try:
            for event in call:
                if not begun:
                    self._begin(200, "Transfer-Encoding", "chunked")
                    begun = True
                self._write_chunk(event.text_delta.text.encode())
            self.wfile.write(b"0\r\n\r\n")
        except grpc.RpcError as error:
            if not begun:
                self._answer(502, f"{error.code().name}: {error.details()}\n")
            # Else the connection closes without the last chunk: the caller sees that the answer is not whole.
        except OSError:
            pass  # the caller has left
        finally:
            call.cancel()

    def _answer(self, status: int, text: str) -> None:
        self._begin(status, "Content-Length", str(len(text.encode())))
        self.wfile.write(text.encode())

    def _begin(self, status: int, framing: str, value: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Connection", "close")
        self.send_header(framing, value)
        self.end_headers()

    def _write_chunk(self, data: bytes) -> None:
        if data:  # an empty chunk would be the last
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))


def main() -> None:
    """Serve until SIGTERM, and then until the last answer is made."""
    address = os.environ.get("OUTRIDER_ADDRESS", "127.0.0.1:50051")
    # Over a Unix socket, clients name the socket's path as the host, which strict servers refuse.
    options = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(address, options) as channel, Service(("", 8080), channel) as service:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=service.shutdown).start())
        service.serve_forever()


if __name__ == "__main__":
    main()
