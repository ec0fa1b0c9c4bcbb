"""Stands between a client and a server on loopback and does to their requests what networks do."""

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        pass  # clients that go away are what this is for


class Proxy:
    """with Proxy(port) as proxy: listens on proxy.port. proxy.mode, which may change at any time:

    pass    requests and replies as they are
    silent  no request is ever answered
    error   every one is answered 500, 503 or 429, in turn, and does not reach the server
    drop    every one reaches the server, which does it; its reply does not come back

    every: only each so-manieth request meets the mode, the others pass. refuse() and listen():
    nobody is there, and somebody is again."""

    def __init__(self, to_port, mode="pass", every=1):
        self.to_port = to_port
        self.mode = mode
        self.every = every
        self.port = 0
        self.n_requests = 0
        self.n_met = 0
        self.lock = threading.Lock()
        self.server = None
        self.ended = threading.Event()
        self.connections = set()

    def meet(self):
        """What happens to the next request."""
        with self.lock:
            self.n_requests += 1
            if self.mode == "pass" or self.n_requests % self.every:
                return "pass", 0
            self.n_met += 1
            return self.mode, self.n_met

    def handler(self):
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def setup(self):
                super().setup()
                proxy.connections.add(self.connection)

            def finish(self):
                proxy.connections.discard(self.connection)
                super().finish()

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                mode, n = proxy.meet()
                if mode == "silent":
                    while not proxy.ended.wait(0.1):
                        pass
                    self.close_connection = True
                    return
                if mode == "error":
                    self.reply((500, 503, 429)[n % 3], b'{"error":"Made","message":"on purpose"}')
                    return
                there = http.client.HTTPConnection("127.0.0.1", proxy.to_port, timeout=120)
                try:
                    there.request(self.command, self.path, body or None,
                                  {"Content-Type": "application/json"})
                    got = there.getresponse()
                    status, said = got.status, got.read()
                except (OSError, http.client.HTTPException):
                    self.close_connection = True
                    return
                finally:
                    there.close()
                if mode == "drop":
                    self.close_connection = True
                    return
                self.reply(status, said)

            def reply(self, status, body):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_):
                pass

        return Handler

    def listen(self):
        for _ in range(100):
            try:
                self.server = Server(("127.0.0.1", self.port), self.handler())
                break
            except OSError:
                time.sleep(0.05)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def refuse(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
        for connection in list(self.connections):
            try:
                connection.shutdown(2)
            except OSError:
                pass

    def __enter__(self):
        return self.listen()

    def __exit__(self, *_):
        self.ended.set()
        self.refuse()
