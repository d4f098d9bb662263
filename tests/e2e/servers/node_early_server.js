// Refuses every upload of more than 1000 bytes with 413 at once, and reads no more of it; the first argument is
// the port.
const http = require("node:http");

http
  .createServer((request, response) => {
    if (Number(request.headers["content-length"]) > 1000) {
      response.writeHead(413, { Connection: "close", "Content-Type": "text/plain" });
      response.end("too large\n");
      return;
    }
    request.resume();
    request.on("end", () => response.end("taken\n"));
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
