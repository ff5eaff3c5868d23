#!/usr/bin/env bash
# Start a sidecar on a Unix socket, stream an answer through it, show what it logged, stop it.
set -euo pipefail
say() { printf '\n· %s\n' "$*"; }

folder=$(mktemp -d)
sidecar=
finish() {
  if [ -n "$sidecar" ]; then
    { kill -KILL "$sidecar" && wait "$sidecar"; } 2>/dev/null || true
  fi
  rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

provider=simulated
for each in openai:OPENAI_API_KEY anthropic:ANTHROPIC_API_KEY groq:GROQ_API_KEY; do
  key=${each#*:}
  if [ -n "${!key:-}" ]; then
    provider=${each%:*}
    break
  fi
done
prompt="In three short sentences: what does an outrider do, and why would a service want one?"
if [ "$provider" = simulated ]; then
  about="no key is set; OPENAI_API_KEY, ANTHROPIC_API_KEY or GROQ_API_KEY brings a real model"
  export OUTRIDER_PROVIDERS__SIMULATED__SIMULATED__PACE=30ms
  export OUTRIDER_PROVIDERS__SIMULATED__SIMULATED__FIRST_TOKEN_DELAY=300ms
  export OUTRIDER_PROVIDERS__SIMULATED__SIMULATED__SCRIPT="An outrider rides ahead and clears the road. \
This one does so for calls to LLMs: it waits, retries, counts and cancels, so that your service need not. \
What you read was made up by the simulated provider and came piece by piece through a real sidecar."
else
  about="by the key in $key"
fi

: >"$folder/outrider.yaml" # empty: the environment alone decides
export OUTRIDER_SERVER__LISTEN=127.0.0.1:0 OUTRIDER_ADMIN__LISTEN=127.0.0.1:0 # whatever port is free
export OUTRIDER_SERVER__UNIX_SOCKET="$folder/outrider.sock" OUTRIDER_ADDRESS="unix://$folder/outrider.sock"
outrider serve --config "$folder/outrider.yaml" >"$folder/log" 2>&1 &
sidecar=$!
if ! outrider health --wait 20 >/dev/null; then
  cat "$folder/log" >&2
  exit 1
fi
say "a sidecar serves; the answer is from: $provider"
echo "  ($about)"

say "outrider generate \"$prompt\""
echo
outrider generate "$prompt" </dev/null

kill -TERM "$sidecar"
wait "$sidecar"
sidecar=
say "the sidecar has drained and stopped; this is its record of the request:"
echo
grep '"event":"request"' "$folder/log"
