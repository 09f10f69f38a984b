"""Python's usual HTTP clients, each with the secret in a header. Arguments: base URL."""
import asyncio
import os
import sys
import urllib.request

import httpx
import requests

BASE = sys.argv[1]
FIELDS = {"Authorization": "Bearer " + os.environ["API_KEY"]}
BODY = b"x" * 100_000


def said(who, status, text):
    print(who, status, text, flush=True)


def pieces():
    for _ in range(10):
        yield BODY[:10_000]


request = urllib.request.Request(BASE + "/upload?urllib", data=BODY, headers=FIELDS)
with urllib.request.urlopen(request) as response:
    said("urllib", response.status, response.read().decode())

with requests.Session() as session:
    answer = session.post(BASE + "/upload?requests", data=BODY, headers=FIELDS)
    said("requests", answer.status_code, answer.text)
    answer = session.post(BASE + "/upload?requests-chunked", data=pieces(), headers=FIELDS)
    said("requests-chunked", answer.status_code, answer.text)
    key = {"key": os.environ["API_KEY"]}
    answer = session.get(BASE + "/status/200", params=key, auth=("user", os.environ["API_KEY"]))
    said("requests-basic", answer.status_code, answer.text)

with httpx.Client() as client:
    answer = client.post(BASE + "/upload?httpx", content=BODY, headers=FIELDS)
    said("httpx", answer.status_code, answer.text)
    with client.stream("GET", BASE + "/bytes/100000", headers=FIELDS) as stream:
        said("httpx-stream", stream.status_code, sum(len(data) for data in stream.iter_bytes()))


async def concurrently():
    async with httpx.AsyncClient() as client:
        asked = [client.get(f"{BASE}/chunked?n={n}", headers=FIELDS) for n in range(1, 6)]
        answers = await asyncio.gather(*asked)
        said("httpx-async", 200, [answer.text.count("chunk") for answer in answers])


asyncio.run(concurrently())
