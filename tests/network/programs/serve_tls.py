"""TLS without HTTP: greets, then answers each line in upper case until `quit`. Arguments: address,
port, PEM, greeting (may be empty)."""
import socket
import ssl
import sys

ADDRESS, PORT, PEM, GREETING = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(PEM)
listener = socket.create_server((ADDRESS, int(PORT)))
print("ready", flush=True)
while True:
    try:
        peer = context.wrap_socket(listener.accept()[0], server_side=True)
    except OSError as error:
        print("failed", error, flush=True)
        continue
    stream = peer.makefile("rwb")
    if GREETING:
        stream.write(GREETING.encode() + b"\n")
        stream.flush()
    for line in stream:
        print("received", line.decode().strip(), flush=True)
        stream.write(line.upper())
        stream.flush()
        if line == b"quit\n":
            break
    stream.close()
    peer.close()
