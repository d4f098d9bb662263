// Follows plan.py, with an agent of its own for each connection. Arguments: URL, file of the authority.
const assert = require("node:assert");
const fs = require("node:fs");
const https = require("node:https");

const [url, authority] = process.argv.slice(2);
const ca = fs.readFileSync(authority);

const CONNECTIONS = 50;
const REQUESTS_PER_CONNECTION = 20;
const REPEATS_PER_NUMBER = 25;

function ask(agent, method, path, body) {
  return new Promise((resolve, reject) => {
    const headers = { "Content-Type": "text/plain", "Content-Length": body.length };
    const request = https.request(url + path, { agent, ca, method, headers }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => resolve(Buffer.concat(parts).toString()));
    });
    request.on("error", reject);
    request.end(body);
  });
}

async function converse(connection) {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
  for (let number = 0; number < REQUESTS_PER_CONNECTION; number++) {
    const method = number % 2 === 0 ? "GET" : "POST";
    const path = `/echo/${connection}/${number}`;
    const repeats = method === "GET" ? 0 : 1 + REPEATS_PER_NUMBER * number;
    const body = `c${connection}n${number}.`.repeat(repeats);
    const answer = await ask(agent, method, path, body);
    assert.strictEqual(answer, `{"method":"${method}","path":"${path}","body":"${body}"}`);
  }
  agent.destroy();
}

Promise.all(Array.from({ length: CONNECTIONS }, (_, connection) => converse(connection))).catch((error) => {
  console.error(error);
  process.exit(1);
});
