#!/usr/bin/env bash
# Judges the OpenAPI document of a running bridge, and the bridge by its document: the document must be valid, and whatever
# schemathesis makes up of it must be answered as the document says, and never with a 5xx. Bounded in time.
#   IMPETUS_URL=… IMPETUS_KEY=… schema/run.sh CACHE      called by ../run.sh, whose service it uses
# Where its packages cannot be installed it says so and passes.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=$1/schema
seconds=${IMPETUS_SCHEMA_SECONDS:-60}

skip() {
    echo "OpenAPI tests skipped: $1"
    exit 0
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || skip "python3 is older than 3.10"
mkdir -p "$cache"
if ! cmp -s "$here/requirements.txt" "$cache/requirements.txt"; then
    rm -rf "$cache/python"
    python3 -m venv "$cache/python" || skip "python3 cannot make a virtual environment"
    "$cache/python/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" >"$cache/pip.log" 2>&1 \
        || skip "the packages cannot be installed (see $cache/pip.log)"
    cp "$here/requirements.txt" "$cache/requirements.txt"
fi

cd "$cache" || exit 1
fetch='import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())'
python/bin/python -c "$fetch" "$IMPETUS_URL/openapi.json" >document.json || exit 1
python/bin/openapi-spec-validator document.json >valid.log 2>&1 || { cat valid.log; exit 1; }

# A hub is not here; settings that are made up would leave a service that can serve nothing; and a text that is made up may be
# continued to the end of the context where no limit is named.
elsewhere='^/(api/(pull|models/pull|settings)|completion$)'
checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance
python/bin/schemathesis run document.json --url "$IMPETUS_URL" --header "Authorization: Bearer $IMPETUS_KEY" \
    --checks "$checks" --exclude-path-regex "$elsewhere" --phases examples,coverage,fuzzing --max-examples 10 \
    --max-time "$seconds" --request-timeout 60 --generation-deterministic \
    --warnings off --no-color >run.log 2>&1
code=$?
if [ "$code" -ne 0 ]; then
    sed -n '/= FAILURES =/,$p;/= ERRORS =/,$p' run.log | head -n 200
    echo "OpenAPI tests: failed (see $cache/run.log)"
    exit 1
fi
echo "OpenAPI tests: the document is valid; $(sed -n 's/^ *\([0-9]*\) generated.*/\1/p' run.log) requests were answered as it says"
