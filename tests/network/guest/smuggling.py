# Requests that a lenient server and a strict one would split differently.

HOST = 'Host: api.example.com\r\n'
HIDDEN = f'GET /smuggled HTTP/1.1\r\n{HOST}\r\n'
CHUNKED = 'Transfer-Encoding: chunked\r\n'

def post(fields, body='', version='HTTP/1.1', end='\r\n'):
    return f'POST /upload {version}{end}{HOST}{fields}\r\n{body}'

def chunks(body):
    return post(CHUNKED, body)

length = f'Content-Length: {len(HIDDEN)}\r\n'
cases = {
    'CL.TE': post('Content-Length: 5\r\n' + CHUNKED, '0\r\n\r\n' + HIDDEN),
    'TE.CL': post(CHUNKED + 'Content-Length: 4\r\n', '5c\r\n' + HIDDEN + '\r\n0\r\n\r\n'),
    'HTTP/1.0 with TE': post(CHUNKED, '0\r\n\r\n' + HIDDEN, 'HTTP/1.0'),
    'two lengths': post('Content-Length: 0\r\n' + length, HIDDEN),
    'two equal lengths': post('Content-Length: 0\r\n' * 2, HIDDEN),
    'list of lengths': post('Content-Length: 0, 0\r\n', HIDDEN),
    'plus': post('Content-Length: +0\r\n', HIDDEN),
    'minus': post('Content-Length: -1\r\n', HIDDEN),
    'hexadecimal': post('Content-Length: 0x0\r\n', HIDDEN),
    'empty length': post('Content-Length: \r\n', HIDDEN),
    'length beyond 64 bits': post('Content-Length: 18446744073709551616\r\n', HIDDEN),
    'length in a list field': post('Content-Length: 0\r\nContent-Length : 90\r\n', HIDDEN),
    'name with space': post('Content-Length : 0\r\n', HIDDEN),
    'name with tab': post('Content-Length\t: 0\r\n', HIDDEN),
    'empty name': post(': x\r\nContent-Length: 0\r\n', HIDDEN),
    'no colon': post('nothing\r\nContent-Length: 0\r\n', HIDDEN),
    'obs-fold': post('X: a\r\n b\r\nContent-Length: 0\r\n', HIDDEN),
    'folded TE': post('Transfer-Encoding:\r\n chunked\r\n', '0\r\n\r\n' + HIDDEN),
    'bare LF': post('X: a\nContent-Length: 0\r\n', HIDDEN),
    'bare CR': post('X: a\rContent-Length: 0\r\n', HIDDEN),
    'LF only': post('', '').replace('\r\n', '\n') + HIDDEN,
    'NUL': post('X: a\0b\r\nContent-Length: 0\r\n', HIDDEN),
    'x-chunked': post('Transfer-Encoding: xchunked\r\n', '0\r\n\r\n' + HIDDEN),
    'chunked twice': post('Transfer-Encoding: chunked, chunked\r\n', '0\r\n\r\n' + HIDDEN),
    'chunked, identity': post('Transfer-Encoding: chunked, identity\r\n', '0\r\n\r\n' + HIDDEN),
    'identity': post('Transfer-Encoding: identity\r\n', HIDDEN),
    'gzip, chunked': post('Transfer-Encoding: gzip, chunked\r\n', '0\r\n\r\n' + HIDDEN),
    'two TE': post(CHUNKED + 'Transfer-Encoding: identity\r\n', '0\r\n\r\n' + HIDDEN),
    'quoted TE': post('Transfer-Encoding: "chunked"\r\n', '0\r\n\r\n' + HIDDEN),
    'vertical tab': post('Transfer-Encoding: \x0bchunked\r\n', '0\r\n\r\n' + HIDDEN),
    'TE in odd letters': post('Transfer-Encoding: chun\u212aed\r\n', '0\r\n\r\n' + HIDDEN),
    'hexadecimal chunk': chunks('0x0\r\n\r\n' + HIDDEN),
    'negative chunk': chunks('-1\r\n\r\n' + HIDDEN),
    'spaces before size': chunks(' 0\r\n\r\n' + HIDDEN),
    'space behind size': chunks('0 \r\n\r\n' + HIDDEN),
    'long chunk': chunks('10000000000000000\r\n' + HIDDEN),
    'LF in extension': chunks('0;x=\n\r\n\r\n' + HIDDEN),
    'LF behind size': chunks('0\n\r\n' + HIDDEN),
    'CR behind size': chunks('0\r\r\n' + HIDDEN),
    'too much data': chunks('1\r\nab\r\n0\r\n\r\n' + HIDDEN),
    'LF behind data': chunks('1\r\na\n0\r\n\r\n' + HIDDEN),
    'long extension': chunks('0;' + 'x' * 100000 + '\r\n\r\n' + HIDDEN),
    'bad trailer': chunks('0\r\nx : y\r\n\r\n' + HIDDEN),
    'HTTP/0.9': 'GET /smuggled\r\n\r\n',
    'HTTP/2.0 as text': HIDDEN.replace('1.1', '2.0'),
    'HTTP/1.2': HIDDEN.replace('1.1', '1.2'),
    'HTTP/01.1': HIDDEN.replace('1.1', '01.1'),
    'lower case version': HIDDEN.replace('HTTP', 'http'),
    'two spaces': HIDDEN.replace('GET ', 'GET  '),
    'tab': HIDDEN.replace('GET ', 'GET\t'),
    'space before': ' ' + HIDDEN,
    'space in target': HIDDEN.replace('/smuggled', '/smuggled x'),
    'fragment': HIDDEN.replace('/smuggled', '/smuggled#x'),
    'CR in target': HIDDEN.replace('/smuggled', '/smuggled\r'),
    'NUL in target': HIDDEN.replace('/smuggled', '/smuggled\0'),
    'relative target': HIDDEN.replace('/smuggled', 'smuggled'),
    'many fields': HIDDEN.replace('Host', 'X: y\r\n' * 2000 + 'Host'),
    'long head': HIDDEN.replace('Host', 'X: ' + 'y' * 200000 + '\r\nHost'),
    'long target': HIDDEN.replace('/smuggled', '/smuggled' + 'y' * 200000),
}

def send(data, plain):
    stream = connect('api.example.com', 80) if plain else tls('api.example.com', 443, 'api.example.com')
    data = data.encode('latin-1', 'replace')
    try:
        stream.sendall(data)
    except OSError:
        pass
    got = read_all(stream, 10)
    answers = re.findall(r'HTTP/1.1 (\d{3})', got.decode('latin-1'))
    return answers or got[-20:].decode('latin-1')

for name, data in cases.items():
    seen[name] = outcome(lambda: send(data, False))
    seen[name + ', plain'] = outcome(lambda: send(data, True))

# In clear that is not HTTP for any server that there is, and bytes of another protocol are carried.
seen['method with odd bytes'] = outcome(lambda: send(HIDDEN.replace('GET', 'G\0T'), False))

# What is of one hop is not passed on, and cannot take away what is for the server.
def head_of(fields):
    stream = tls('api.example.com', 443, 'api.example.com')
    stream.sendall(f'GET /echo HTTP/1.1\r\n{HOST}{fields}\r\n'.encode())
    return stream.recv(65536)[9:12].decode()

seen['hops'] = [head_of('Connection: close, Host, X-Kept\r\nX-Kept: 1\r\n'),
                head_of('Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n'),
                head_of('Keep-Alive: 5\r\nProxy-Connection: x\r\nTE: trailers, gzip\r\n')]
