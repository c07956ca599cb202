#!/usr/bin/env bash
# What the container runs: `run …` a job to its end (resumed when the container is started again), `notebook`
# JupyterLab, or any other command.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
case ${1:-} in
  run)
    shift
    if [[ " $* " = *" --name "* ]]; then
      echo "error: in the container the job is named container; leave --name out" >&2
      exit 2
    fi
    bash paperspace/run_headless.sh --name container "$@"
    trap 'bash paperspace/run_headless.sh stop container' TERM
    bash paperspace/run_headless.sh wait container &
    wait $!
    ;;
  notebook)
    exec jupyter lab --allow-root --ip=0.0.0.0 --no-browser --ServerApp.trust_xheaders=True \
      --ServerApp.disable_check_xsrf=False --ServerApp.allow_remote_access=True --ServerApp.allow_origin='*' \
      --ServerApp.allow_credentials=True
    ;;
  *) exec "$@" ;;
esac
