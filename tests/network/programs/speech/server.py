"""Python's server, over plain TCP and TLS. Arguments: address, port, port for TLS, PEM."""
import http.server
import ssl
import sys
import threading

ADDRESS, PORT, SECURE, PEM = sys.argv[1:]


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


plain = http.server.ThreadingHTTPServer((ADDRESS, int(PORT)), Answer)
secure = http.server.ThreadingHTTPServer((ADDRESS, int(SECURE)), Answer)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(PEM)
secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
# What it cannot read is what it is sent.
plain.handle_error = secure.handle_error = lambda *_: None
threading.Thread(target=plain.serve_forever, daemon=True).start()
secure.serve_forever()
