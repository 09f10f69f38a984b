"""Calls of each kind with the secret in the metadata. Arguments: host:port."""
import os
import queue
import sys

import grpc

METADATA = (("authorization", "Bearer " + os.environ["API_KEY"]),)
LIMIT = 120
channel = grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials())

reply, call = channel.unary_unary("/grpc/unary").with_call(b"hello", LIMIT, METADATA)
print("unary", reply, call.code(), call.details(), flush=True)

messages = queue.Queue()
replies = channel.stream_stream("/grpc/stream")(iter(messages.get, None), LIMIT, METADATA)
for number in range(3):
    # The next is not sent before the reply to this one is here.
    messages.put(b"message %d" % number)
    print("stream", next(replies), flush=True)
messages.put(None)
print("rest", list(replies), replies.code(), flush=True)

large = bytes(range(256)) * 4096
reply = channel.unary_unary("/grpc/large")(large, LIMIT, METADATA)
print("large", reply == large, flush=True)

try:
    channel.unary_unary("/status/403")(b"", LIMIT, METADATA)
except grpc.RpcError as error:
    print("refused", error.code(), flush=True)
