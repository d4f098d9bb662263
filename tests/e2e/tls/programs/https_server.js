// Serves the answer of plan.py. Arguments: port, certificate, key.
const fs = require("node:fs");
const https = require("node:https");

const [port, certificate, key] = process.argv.slice(2);

const server = https.createServer(
  { cert: fs.readFileSync(certificate), key: fs.readFileSync(key) },
  (request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      const body = Buffer.concat(parts).toString();
      const answer = `{"method":"${request.method}","path":"${request.url}","body":"${body}"}`;
      response.setHeader("Content-Type", "application/json");
      response.setHeader("Content-Length", answer.length);
      response.write(answer.slice(0, 11));
      response.end(answer.slice(11));
    });
  },
);
server.keepAliveTimeout = 100_000; // a connection outlasts the start of an agent
server.listen(Number(port), "127.0.0.1");
