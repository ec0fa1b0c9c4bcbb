"""Stands before a server on loopback, passes requests on and remembers them; over TLS where it is
given a certificate."""

import http.client
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


def make_certificate(folder, *names):
    """A certificate that signs itself, for the names (IP:127.0.0.1, DNS:localhost): one file with
    its key, one without."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl, which makes certificates")
    folder.mkdir(parents=True, exist_ok=True)
    key, alone, both = folder / "key.pem", folder / "certificate.pem", folder / "both.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=test",
                    "-addext", "subjectAltName=" + ",".join(names), "-keyout", key, "-out", alone],
                   check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + alone.read_bytes())
    return both, alone


class RecordingProxy:
    """requests: (method, path, headers by lower-case names), as they come. failed: handshakes that came to nothing."""

    def __init__(self, to_port, host="127.0.0.1", certificate=None):
        self.requests = []
        self.failed = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def setup(self):
                if certificate:
                    self.request.settimeout(self.timeout)
                    self.request.do_handshake()
                super().setup()

            def pass_on(self):
                proxy.requests.append((self.command, self.path, {
                    name.lower(): value for name, value in self.headers.items()}))
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                there = http.client.HTTPConnection("127.0.0.1", to_port, timeout=60)
                try:
                    there.request(self.command, self.path, body, {
                        "Content-Type": self.headers.get("Content-Type") or "application/json"})
                    reply = there.getresponse()
                    said = reply.read()
                finally:
                    there.close()
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.headers.get("Content-Type", "text/plain"))
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST = do_PUT = do_DELETE = pass_on

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                proxy.failed.append(client_address)

        self.server = Server((host, 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                     do_handshake_on_connect=False)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
