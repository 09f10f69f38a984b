"""A WebSocket with the secret in its handshake. Arguments: URL."""
import asyncio
import os
import sys

import websockets


async def main():
    fields = {"Authorization": "Bearer " + os.environ["API_KEY"]}
    async with websockets.connect(sys.argv[1], extra_headers=fields, max_size=None) as socket:
        await socket.send("hello")
        print("text", await socket.recv(), flush=True)
        large = bytes(range(256)) * 4096
        await socket.send(large)
        print("binary", await socket.recv() == large, flush=True)
        await socket.send(os.environ["API_KEY"])
        print("untouched", await socket.recv() == os.environ["API_KEY"], flush=True)
        await asyncio.wait_for(await socket.ping(), 60)
        print("pong", flush=True)
    print("closed", socket.close_code, flush=True)


asyncio.run(main())
