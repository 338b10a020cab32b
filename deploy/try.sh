#!/bin/sh
# deploy/try.sh ADDRESS...: submits a transaction through each server, and has the last one tell of
# all until they are final. CITYCHAIN names the command, CITY the city.
set -eu
citychain=${CITYCHAIN:-.venv/bin/citychain}
city=${CITY:-hometown}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$citychain" keygen "$folder/key" >"$folder/id" 2>&1
ids=
for server; do
    "$citychain" submit --server "$server" --city "$city" --key "$folder/key" \
        --data "through $server" --json >"$folder/submitted"
    ids="$ids $(sed 's/.*"tx_id": "\([0-9a-f]*\)".*/\1/' "$folder/submitted")"
done
# shellcheck disable=SC2086 # a list of words
"$citychain" watch --server "$server" --city "$city" $ids
