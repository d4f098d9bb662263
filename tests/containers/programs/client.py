"""Makes one HTTP request from inside a container and prints the answer: `client.py ADDRESS PORT PATH`."""

import sys
from http.client import HTTPConnection

connection = HTTPConnection(sys.argv[1], int(sys.argv[2]))
connection.request("GET", sys.argv[3])
sys.stdout.buffer.write(connection.getresponse().read())
