// Answers with the path and the length of the request's body; the first argument is the port.
const http = require("node:http");

http
  .createServer((request, response) => {
    let length = 0;
    request.on("data", (data) => (length += data.length));
    request.on("end", () => {
      const text = `${request.url} ${length}\n`;
      response.setHeader("Content-Type", "text/plain");
      if (!request.url.startsWith("/chunked")) response.setHeader("Content-Length", text.length);
      response.write(text.slice(0, 4));
      response.end(text.slice(4));
    });
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
