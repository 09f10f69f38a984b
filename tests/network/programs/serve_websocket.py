"""A WebSocket server that echoes and tells the handshake's header fields. Arguments: address, port, PEM."""
import asyncio
import ssl
import sys

import websockets

ADDRESS, PORT, PEM = sys.argv[1:]


async def echo(socket):
    for name, value in socket.request_headers.raw_items():
        print(f"{name}: {value}", flush=True)
    async for message in socket:
        await socket.send(message)
    print(f"closed {socket.close_code}", flush=True)


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    async with websockets.serve(echo, ADDRESS, int(PORT), ssl=context, max_size=None):
        print("ready", flush=True)
        await asyncio.Future()


asyncio.run(main())
