# What is known of a job, read from its folder: its state, whether it is alive and where. Sourced, never run.
# shellcheck shell=bash
#
# state     running, done, failed, paused (its time was up), stopped (by a person); and a detail
# owner     host, boot, process id and its start: the supervisor
# beat      touched every half minute while it lives
# command   what is run, and options: both as words ended by NUL

TICK=${SHUTTLE_TICK:-2} # seconds between looks
BEAT_DEAD=180           # seconds after which a job on another machine counts as gone

boot_id() { cat /proc/sys/kernel/random/boot_id 2>/dev/null || printf 'none\n'; }
# When a process started (the 22nd field, counted after the name, which may hold blanks): tells it from a later
# one of the same number. Nothing for one that is gone or that nobody has collected yet.
start_of() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }

is_here() {
  local host boot
  read -r host boot _ 2>/dev/null <"$1/owner" || return 1
  [ "$host" = "$(hostname)" ] && [ "$boot" = "$(boot_id)" ]
}

is_alive() {
  local pid begun
  [ -f "$1/owner" ] || return 1
  if is_here "$1"; then
    read -r _ _ pid begun <"$1/owner"
    [ -n "$begun" ] && [ "$(start_of "$pid")" = "$begun" ]
  else
    [ $(($(date +%s) - $(stat -c %Y "$1/beat" 2>/dev/null || echo 0))) -lt $BEAT_DEAD ]
  fi
}

state_of() {
  local state=unknown
  read -r state _ 2>/dev/null <"$1/state" || true
  if [ "$state" = running ] && ! is_alive "$1"; then state=interrupted; fi
  printf '%s\n' "$state"
}

detail_of() {
  local detail=''
  read -r _ detail 2>/dev/null <"$1/state" || true
  printf '%s\n' "$detail"
}

set_state() {
  printf '%s\n' "$2" >"$1/state.partial" && mv "$1/state.partial" "$1/state"
}

last_checkpoint() {
  local newest
  newest=$(find "$1" -maxdepth 3 -path '*/checkpoints/step_*' -prune -type d -printf '%T@ %f\n' 2>/dev/null |
    sort -n | tail -n 1 | cut -d' ' -f2)
  printf '%s\n' "${newest:-no checkpoint yet}"
}

# 5h30m, 90m, 3600s or 3600 as seconds.
seconds_of() {
  [[ $1 =~ ^(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s?)?$ && -n $1 ]] || return 1
  printf '%d\n' $((10#${BASH_REMATCH[2]:-0} * 3600 + 10#${BASH_REMATCH[4]:-0} * 60 + 10#${BASH_REMATCH[6]:-0}))
}

wait_for() { while is_alive "$1"; do sleep "$TICK"; done; }

# The supervisor notes itself in `owner` first thing.
wait_until_started() {
  local i
  for ((i = 0; i < 100; i++)); do
    [ "$(cut -d' ' -f3 "$1/owner" 2>/dev/null)" != "$2" ] || return 0
    sleep 0.1
  done
  die "$1: the job did not start; see $1/log"
}

stop_tensorboard() {
  local host boot pid begun
  if read -r host boot pid begun 2>/dev/null <"$SHUTTLE_JOBS/.tensorboard" &&
    [ "$host $boot" = "$(hostname) $(boot_id)" ] && [ -n "$begun" ] &&
    [ "$(start_of "$pid")" = "$begun" ]; then
    kill "$pid"
    say "tensorboard is stopped"
  else
    say "no tensorboard of these jobs runs here"
  fi
}
