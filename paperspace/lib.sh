# Small things that the scripts share. Sourced, never run.
# shellcheck shell=bash

REPO=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=paperspace/paths.env
. "$REPO/paperspace/paths.env"

say() { printf '%s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit "${status:-1}"
}
usage_error() { status=2 die "$*"; }

# The folder itself, or the nearest one above it that exists.
existing() {
  local folder=$1
  while [ ! -d "$folder" ]; do folder=$(dirname -- "$folder"); done
  printf '%s\n' "$folder"
}

free_kb() { df -Pk -- "$(existing "$1")" | awk 'NR == 2 { print $4 }'; }

# need_space FOLDER GB WHAT-FOR HOW-TO-CHANGE: before anything is written.
need_space() {
  local free
  free=$(free_kb "$1")
  [ -w "$(existing "$1")" ] || die "$1: no permission to write there; $4"
  awk -v free="$free" -v gb="$2" 'BEGIN { exit !(free < gb * 1048576) }' || return 0
  die "$1: $(awk -v free="$free" 'BEGIN { printf "%.1f", free / 1048576 }') GB free, $3 needs $2 GB;" \
    "free some space or choose another place ($4)"
}

# lock_or_die FILE MESSAGE [SECONDS]: hold a lock while the script lives, where the file system has locks;
# without them, go on.
lock_or_die() {
  mkdir -p "$(dirname -- "$1")"
  exec 9>"$1"
  if command -v flock >/dev/null; then
    local code=0
    flock -E 75 -w "${3:-0}" 9 || code=$?
    [ "$code" != 75 ] || die "$2"
  fi
}
