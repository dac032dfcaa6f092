#!/usr/bin/env bash
# Runs a command where one SIGTERM announces the end, as in a pod or on a machine that can be taken
# away: until_stopped.sh COMMAND ARGUMENT…
#
# SIGTERM goes on to all processes of the command, so that a workflow starts nothing more and its
# trainings write checkpoints. Ends when the command has ended, with its status.
set -u
setsid "$@" &
child=$!
trap 'kill -TERM -- -"$child" 2>/dev/null' TERM INT HUP
# A signal ends the waiting too; then the command is waited for again.
wait "$child"
while kill -0 "$child" 2>/dev/null; do
    wait "$child"
done
# It may have ended between a signal and the look at it; bash remembers with which status.
wait "$child"
