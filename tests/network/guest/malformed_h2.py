# What no client of HTTP/2 may send (RFC 9113, sections 5 to 8).

own = 'api.example.com'
m, s, a = (':method', 'POST'), (':scheme', 'https'), (':authority', own)
p = (':path', '/smuggled')

def send(*fields, body=None, raw=None):
    session = h2(own, own)
    if raw:
        session.stream.sendall(raw)
    else:
        session.request(1, fields, body)
    return session.answer(1)

def guarded(**how):
    fields = how.pop('fields', ())
    return outcome(lambda: send(*fields, **how))

for name, field in {
    'transfer-encoding': ('transfer-encoding', 'chunked'),
    'connection': ('connection', 'close'),
    'keep-alive': ('keep-alive', '5'),
    'upgrade': ('upgrade', 'h2c'),
    'upper case': ('X-Upper', '1'),
    'CRLF in value': ('x', 'a\r\nhost: evil.example.net'),
    'LF in value': ('x', 'a\nb'),
    'NUL in value': ('x', 'a\0b'),
    'CRLF in name': ('x\r\ny', 'a'),
    'space in name': ('x y', 'a'),
    'colon in name': ('x:y', 'a'),
    'empty name': ('', 'a'),
    'unknown pseudo': (':odd', 'a'),
    'response pseudo': (':status', '200'),
    'late pseudo': (':path', '/late'),
    'te': ('te', 'gzip'),
    'long length': ('content-length', '99'),
    'odd length': ('content-length', '+5'),
    'short length': ('content-length', '2'),
}.items():
    seen[name] = guarded(fields=(m, s, p, a, field), body=b'hello')
for name, fields in {
    'path with space': (m, s, (':path', '/smuggled HTTP/1.1'), a),
    'path with CRLF': (m, s, (':path', '/smuggled\r\nX: y'), a),
    'empty path': (m, s, (':path', ''), a),
    'relative path': (m, s, (':path', 'smuggled'), a),
    'no method': (s, p, a),
    'no scheme': (m, p, a),
    'no path': (m, s, a),
    'two methods': (m, m, s, p, a),
    'two paths': (m, s, p, p, a),
    'method with space': ((':method', 'GET /x'), s, p, a),
    'method with CRLF': ((':method', 'GET\r\n'), s, p, a),
}.items():
    seen[name] = guarded(fields=fields)
good = b''.join(literal(*f) for f in (m, s, p, a))
seen['even stream'] = guarded(raw=frame(1, 5, 2, good) + frame(6, 0, 0, bytes(7)))
seen['stream 0'] = guarded(raw=frame(1, 5, 0, good))
seen['data first'] = guarded(raw=frame(0, 0, 1, b'x'))
seen['bad index'] = guarded(raw=frame(1, 5, 1, b'\xff\xff\xff\xff\xff\x0f'))
seen['push'] = guarded(raw=frame(5, 4, 1, (2).to_bytes(4) + good))
seen['large frame'] = guarded(raw=frame(0, 0, 1, bytes(100000)))
seen['bad settings'] = guarded(raw=frame(4, 0, 0, bytes(5)))
# Floods: CONTINUATION without an end, HPACK that unpacks to much, resets, settings, pings.
seen['continuation'] = guarded(raw=frame(1, 0, 1, good) + frame(9, 0, 1, literal('x', 'y' * 900)) * 2000)
bomb = b'\x40' + text('x') + text('y' * 3900) + b'\xbe' * 12000
seen['bomb'] = guarded(raw=frame(1, 5, 1, good + bomb))
session = h2(own, own)
ok = literal(':method', 'GET') + literal(*s) + literal(':path', '/ok') + literal(*a)
try:
    for number in range(1, 4001, 2):
        session.stream.sendall(frame(1, 5, number, ok) + frame(3, 0, number, (8).to_bytes(4)))
except OSError:
    pass
seen['reset'] = 'done'
for name, flood in {'pings': frame(6, 0, 0, bytes(8)), 'settings': frame(4, 0, 0, b'')}.items():
    session = h2(own, own)
    try:
        session.stream.sendall(flood * 20000)
    except OSError:
        pass
    seen[name] = 'done'
session = h2(own, own)
session.get(1, own, '/ok')
seen['after'] = session.answer(1)
