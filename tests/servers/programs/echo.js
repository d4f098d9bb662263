// Node's own HTTP server: it reads a request to its end and says in the header X-Read what it read.
const crypto = require('crypto');
const http = require('http');

const hex = (text) => Buffer.from(text || '', 'latin1').toString('hex');

const server = http.createServer((request, response) => {
  const hash = crypto.createHash('sha1');
  let length = 0;
  request.on('data', (part) => { length += part.length; hash.update(part); });
  request.on('end', () => {
    const read = [request.method, request.url, request.headers.host].map(hex);
    response.setHeader('X-Read', [...read, length, hash.digest('hex')].join(' '));
    response.setHeader('Content-Length', 4);
    response.end('read');
  });
});
// The answer to a request that was read whole goes out before the refusal of what stands behind it, which else would
// take its place. Bytes behind a request with Connection: close are none of a server's business.
server.on('clientError', (error, socket) => setTimeout(() => {
  if (error.code === 'HPE_CLOSED_CONNECTION') socket.end();
  else if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
}, 20));
server.listen(Number(process.argv[2]), '127.0.0.1');
