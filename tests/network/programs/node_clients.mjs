// Node's HTTP clients, each with the secret in a header. Arguments: base URL.
import http2 from 'node:http2';
import https from 'node:https';

const base = process.argv.at(-1);
const headers = { authorization: `Bearer ${process.env.API_KEY}` };
const body = 'x'.repeat(100_000);
const said = (...words) => console.log(...words);

const answer = await fetch(`${base}/upload?fetch`, { method: 'POST', body, headers });
said('fetch', answer.status, await answer.text());

const events = await fetch(`${base}/sse?n=3`, { headers });
let text = '';
for await (const piece of events.body) text += Buffer.from(piece);
said('fetch-stream', events.status, text.split('data:').length - 1);

await new Promise((resolve, reject) => {
  const options = { method: 'POST', headers };
  const request = https.request(`${base}/upload?https`, options, (response) => {
    let text = '';
    response.on('data', (piece) => { text += piece; });
    response.on('end', () => { said('https', response.statusCode, text); resolve(); });
  });
  request.on('error', reject);
  for (let i = 0; i < 10; i += 1) request.write(body.slice(0, 10_000));
  request.end();
});

await new Promise((resolve, reject) => {
  const session = http2.connect(base);
  session.on('error', reject);
  const stream = session.request({ ':method': 'POST', ':path': '/upload?http2', ...headers });
  let status = 0;
  let text = '';
  stream.on('response', (fields) => { status = fields[':status']; });
  stream.on('data', (piece) => { text += piece; });
  stream.on('end', () => { said('http2', status, text); session.close(); resolve(); });
  stream.on('error', reject);
  stream.end(body);
});
