// Catalogue: products, with what the stock service says of each. The hop to it is HTTP/2 in plaintext.
"use strict";
const http = require("node:http");
const http2 = require("node:http2");

const products = [
  { id: 7, name: "gadget", price: 25 },
  { id: 12, name: "widget", price: 10 },
  { id: 13, name: "cursed widget", price: 1 },
];

let session;
function stock() {
  if (!session || session.closed || session.destroyed) {
    session = http2.connect("http://stock:8080");
    session.on("error", () => {});
  }
  return session;
}

function askStock(id, context) {
  return new Promise((resolve, reject) => {
    const request = stock().request({
      ":method": "POST",
      ":path": "/count",
      "content-type": "application/json",
      ...context,
    });
    let status = 0;
    let text = "";
    request.setEncoding("utf8");
    request.on("response", (headers) => (status = headers[":status"]));
    request.on("data", (chunk) => (text += chunk));
    request.on("end", () => resolve({ status, content: JSON.parse(text) }));
    request.on("error", reject);
    request.end(JSON.stringify({ product: id }));
  });
}

function answer(response, status, content) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(content));
}

async function serve(request, response) {
  const found = request.url.match(/^\/products(?:\/(\d+))?$/);
  if (!found) return answer(response, 404, { error: "no such page" });
  if (!found[1]) return answer(response, 200, products);
  const product = products.find(({ id }) => id === Number(found[1]));
  if (!product) return answer(response, 404, { error: "no such product" });
  // Passed on as it came; without it every hop is a trace of its own.
  const context = request.headers.traceparent ? { traceparent: request.headers.traceparent } : {};
  const { status, content } = await askStock(product.id, context);
  if (status !== 200) return answer(response, 502, { error: "stock is not available", cause: content });
  answer(response, 200, { ...product, stock: content.count });
}

http
  .createServer((request, response) => {
    serve(request, response).catch((error) => answer(response, 502, { error: error.message }));
  })
  .listen(8080);
process.on("SIGTERM", () => process.exit(0));
