#!/bin/sh
# Encode over HTTP with nothing but curl:
#
#     sh http_curl.sh [HTTP_PORT]
#
# The server listens for HTTP when it is started with -http_port HTTP_PORT.
set -eu
URL="http://localhost:${1:-8125}"

post() {
    curl --silent --show-error --fail --max-time 30 -X POST "$URL/encode" \
        -H "Content-Type: application/json" -d "$1"
    echo
}

get() {
    curl --silent --show-error --fail --max-time 30 "$URL$1"
    echo
}

post '{"id": 123, "texts": ["hello world", "good day"], "is_tokenized": false}'
post '{"id": 124, "texts": [["hello", "world"], ["good", "day"]], "is_tokenized": true}'
get /status/server
get /status/client
