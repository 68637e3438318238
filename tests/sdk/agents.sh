#!/usr/bin/env bash
# Runs three coding agents, headless, against a service of their own: each must end with exit code 0. Not part of `make test`:
# it installs some 500 MB, and a demo model takes a minute over the prompts of agents. Build first.
#   tests/sdk/agents.sh [FOLDER]     where the agents are installed; a temporary folder by default
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
programs=${IMPETUS_PROGRAMS:-${CARGO_TARGET_DIR:-$root/target}/debug}
folder=${1:-$(mktemp -d)}
mkdir -p "$folder/home/.codex" "$folder/work" && cd "$folder" || exit 1

npm install --no-audit --no-fund --prefix "$folder" \
    @openai/codex@0.169.0 @anthropic-ai/claude-code@2.1.329 opencode-ai@1.18.33 >npm.log 2>&1 || { cat npm.log; exit 1; }
# Their own installers only choose the program of this machine, which lies beside them.
claude=$(ls -d node_modules/@anthropic-ai/claude-code-*/claude 2>/dev/null | head -1)
opencode=$(ls -d node_modules/opencode-*/bin/opencode 2>/dev/null | head -1)

export IMPETUS_HOME=$folder/service
mkdir -p "$IMPETUS_HOME" && chmod 700 "$IMPETUS_HOME"
trap '"$programs/impetusctl" stop >/dev/null 2>&1' EXIT
url=$("$programs/impetusctl" serve --detach --http 127.0.0.1:0 --json | sed -n 's/^ *"http": "\(.*\)",*$/\1/p')
IMPETUS_KEY=$("$programs/impetusctl" key show)
export IMPETUS_KEY

cat >home/.codex/config.toml <<EOF
model = "impetus-nano"
model_provider = "impetus"
[model_providers.impetus]
name = "Impetus"
base_url = "$url/v1"
env_key = "IMPETUS_KEY"
wire_api = "responses"
EOF
cat >work/opencode.json <<EOF
{"model": "impetus/impetus-nano", "small_model": "impetus/impetus-nano", "share": "disabled", "autoupdate": false,
 "provider": {"impetus": {"npm": "@ai-sdk/openai-compatible", "name": "Impetus",
  "options": {"baseURL": "$url/v1", "apiKey": "$IMPETUS_KEY"},
  "models": {"impetus-nano": {"name": "impetus-nano", "limit": {"context": 65536, "output": 32000}}}}}}
EOF

failures=0
attempt() {
    local name=$1 code
    shift
    (cd work && HOME=$folder/home timeout 300 "$@" </dev/null >"$folder/$name.log" 2>&1)
    code=$?
    echo "$name: exit code $code"
    [ "$code" -eq 0 ] || { tail -n 20 "$folder/$name.log"; failures=$((failures + 1)); }
}
question="What is Impetus?"
attempt codex env CODEX_HOME="$folder/home/.codex" "$folder/node_modules/.bin/codex" exec --skip-git-repo-check "$question"
attempt claude env ANTHROPIC_BASE_URL="$url" ANTHROPIC_API_KEY="$IMPETUS_KEY" ANTHROPIC_MODEL=impetus-nano IS_SANDBOX=1 \
    ANTHROPIC_SMALL_FAST_MODEL=impetus-nano CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 "$folder/$claude" -p "$question"
attempt opencode env XDG_DATA_HOME="$folder/home/data" XDG_CONFIG_HOME="$folder/home/config" OPENCODE_DISABLE_MODELS_FETCH=1 \
    "$folder/$opencode" run "$question"
exit $((failures > 0))
