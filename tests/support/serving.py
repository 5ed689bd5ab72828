"""A web server for the files of a folder, in a thread."""

import contextlib
import functools
import http.server
import threading

__all__ = ["serving"]


class Handler(http.server.SimpleHTTPRequestHandler):
    """A handler that prints nothing, and lets pages of other addresses read the files."""

    def log_message(self, *_):
        pass

    def end_headers(self):
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()


@contextlib.contextmanager
def serving(folder):
    """Serve the files of a folder; yield the address."""
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
