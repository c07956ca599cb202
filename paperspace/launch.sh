#!/usr/bin/env bash
# Machines of Paperspace over its present REST API: the one file that knows a vendor. The Gradient and Core
# APIs and the `gradient` package stopped working on 15 July 2024; nothing here uses them, and no API starts a
# notebook: open those in the browser. Needs curl, python3 and PAPERSPACE_API_KEY in the environment.
set -euo pipefail
# shellcheck source=paperspace/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

API=${PAPERSPACE_API:-https://api.paperspace.com/v1}
MAX_SCRIPT=16384 # bytes of a startup script

usage() {
  cat <<'TEXT'
usage: bash paperspace/launch.sh create NAME TEMPLATE_ID [COMMAND…]   (COMMAND: words for run_headless.sh)
       bash paperspace/launch.sh templates | list | show ID | start ID | stop ID | delete ID
       bash paperspace/launch.sh script [COMMAND…]                    print the startup script, for any machine
       bash paperspace/launch.sh off poweroff|api                     shut down the machine this runs on
Environment: PAPERSPACE_API_KEY; for create: REPO_URL, REPO_REF (main), MACHINE_TYPE (A4000), REGION (ny2),
DISK_GB (100), HOURS (12: the machine stops by itself after so many); TORCH_INDEX, CPU_ONLY: see setup.sh.
TEXT
}

# api METHOD PATH [JSON]: the answer on standard output. The key goes in through standard input, so that neither
# the list of processes nor a log shows it.
api() {
  [ -n "${PAPERSPACE_API_KEY:-}" ] ||
    die "PAPERSPACE_API_KEY is not set: make a key in the team settings of the Paperspace console"
  local answer code body retries=()
  body=$(mktemp)
  [ "$1" = POST ] || retries=(--retry 3) # a repeated POST could rent two machines
  code=$(
    curl -sS --config - --request "$1" "${retries[@]}" --max-time 60 --output "$body" --write-out '%{http_code}' \
      ${3:+--data-binary "$3"} "$API$2" <<<"header = \"Authorization: Bearer $PAPERSPACE_API_KEY\"
header = \"Content-Type: application/json\""
  ) || code=none
  answer=$(cat "$body")
  rm -f "$body"
  case $code in
    none) die "$API: no answer to $1 $2 (curl says why above); try again later" ;;
    2??) printf '%s\n' "$answer" ;;
    401 | 403) die "$1 $2: $code, the key is refused: PAPERSPACE_API_KEY must be one of the machine's team" ;;
    404) die "$1 $2: 404, there is no such thing: see launch.sh list" ;;
    429) die "$1 $2: 429, too many requests: wait a minute" ;;
    *) die "$1 $2: $code, $(field message <<<"$answer" || printf '%s' "$answer" | head -c 200)" ;;
  esac
}

# field NAME…: a value out of JSON on standard input; an error if it is not there.
field() {
  python3 -Ic 'import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1:]:
    value = value[name]
print(value)' "$@" 2>/dev/null
}

# rows FIELD…: a line an item of a list, with these fields.
rows() {
  python3 -Ic 'import json, sys
for item in json.load(sys.stdin)["items"]:
    print(*(item.get(name) for name in sys.argv[1:]), sep="\t")' "$@"
}

# card: what matters of a machine.
card() {
  python3 -Ic 'import json, sys
machine = json.load(sys.stdin)
for name in ("id", "name", "state", "machineType", "region", "publicIp", "usageRate", "storageRate"):
    print(f"{name:<12} {machine.get(name)}")'
}

# object NAME VALUE… as JSON; the value of a NAME that ends in a colon is JSON already.
object() {
  python3 -Ic 'import json, sys
words = sys.argv[1:]
pairs = zip(words[::2], words[1::2])
print(json.dumps({n.rstrip(":"): json.loads(v) if n.endswith(":") else v for n, v in pairs}))' "$@"
}

# startup.sh with its settings filled in. No token belongs in it: the vendor stores it in the clear.
script() {
  [ -n "${REPO_URL:-}" ] || usage_error "REPO_URL is not set: where should the machine clone the project from?"
  case "$REPO_URL ${TORCH_INDEX:-}" in
    *://*@*) usage_error "REPO_URL or TORCH_INDEX holds a password; a startup script is stored in the clear" ;;
  esac
  local text name
  text=$(
    printf '#!/bin/bash\nREPO_URL=%q\nREPO_REF=%q\nSETTINGS=(' "$REPO_URL" "${REPO_REF:-main}"
    for name in TORCH_INDEX CPU_ONLY; do [ -z "${!name:-}" ] || printf '%q ' "$name=${!name}"; done
    printf ')\nCOMMAND=('
    [ $# = 0 ] || printf '%q ' "$@"
    printf ')\n'
    tail -n +2 "$REPO/paperspace/startup.sh"
  )
  [ "$(printf '%s' "$text" | wc -c)" -le "$MAX_SCRIPT" ] ||
    die "the startup script is longer than $MAX_SCRIPT bytes; shorten the command"
  printf '%s\n' "$text"
}

create() {
  [ $# -ge 2 ] || usage_error "create needs NAME and TEMPLATE_ID (see launch.sh templates)"
  local name=$1 template=$2 disk=${DISK_GB:-100} hours=${HOURS:-12} text answer id machine
  shift 2
  [[ $disk =~ ^[0-9]+$ && $hours =~ ^[0-9]+$ ]] || usage_error "DISK_GB=$disk, HOURS=$hours: whole numbers, please"
  text=$(script "$@")
  answer=$(api POST /startup-scripts "$(object name "$name" script "$text" isRunOnce: false)")
  id=$(field id <<<"$answer") || die "POST /startup-scripts: an answer without an id"
  if ! answer=$(api POST /machines "$(object name "$name" machineType "${MACHINE_TYPE:-A4000}" templateId "$template" \
    diskSize: "$disk" region "${REGION:-ny2}" publicIpType dynamic startOnCreate: true startupScriptId "$id" \
    autoShutdownEnabled: true autoShutdownForce: true autoShutdownTimeout: "$hours")"); then
    api DELETE "/startup-scripts/$id" >/dev/null || say "note      the startup script $id is left over" >&2
    exit 1
  fi
  machine=$(field data id <<<"$answer") || die "POST /machines: an answer without an id"
  say "machine   $machine (${MACHINE_TYPE:-A4000}, ${REGION:-ny2}, $disk GB), startup script $id"
  say "watch     bash paperspace/launch.sh show $machine    then ssh paperspace@its address"
  say "end       bash paperspace/launch.sh stop $machine    (a stopped machine still pays for its disk: delete)"
}

off() {
  case ${1:-} in
    poweroff) ${SHUTTLE_POWEROFF:-sudo -n poweroff} ;;
    api) api PATCH "/machines/${PAPERSPACE_MACHINE_ID:-$(hostname)}/stop" >/dev/null ;;
    *) usage_error "off ${1:-}: choose poweroff or api" ;;
  esac
}

main() {
  verb=${1:-}
  [ $# = 0 ] || shift
  case $verb in
    '' | -h | --help) usage ;;
    create | script | off) "$verb" "$@" ;;
    templates) api GET '/os-templates?limit=120' | rows id name operatingSystemLabel ;;
    list) api GET '/machines?limit=120' | rows id name machineType state publicIp ;;
    show | start | stop | delete)
      [ $# = 1 ] || usage_error "$verb which machine? (see launch.sh list)"
      case $verb in
        show) api GET "/machines/$1" | card ;;
        delete) api DELETE "/machines/$1" >/dev/null && say "deleted   $1, its disk with it" ;;
        *) api PATCH "/machines/$1/$verb" >/dev/null && say "asked     $1 to $verb" ;;
      esac
      ;;
    *) usage_error "launch.sh knows no $verb (see --help)" ;;
  esac
  exit # the file is never read on: a clone updated meanwhile does no harm
}

main "$@"
