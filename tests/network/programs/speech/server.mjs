// Node's server, over plain TCP and TLS. Arguments: address, port, port for TLS, PEM.
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";

const [address, port, secure, path] = process.argv.slice(2);
const pem = readFileSync(path);
const answer = (request, response) => response.end("served");
http.createServer(answer).listen(port, address);
https.createServer({ cert: pem, key: pem }, answer).listen(secure, address);
