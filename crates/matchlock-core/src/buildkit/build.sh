# A build in the sandbox: the context is in /workspace, the image comes to be there.
set -eu
socket=/run/buildkit/buildkitd.sock
log=/workspace/buildkitd.log
mkdir -p /run/buildkit /tmp

# Options come by the environment, for the audit trail has arguments.
set --
number=0
while [ "$number" -lt "$MATCHLOCK_OPTIONS" ]; do
    eval "set -- \"\$@\" --opt \"\$MATCHLOCK_OPTION_$number\"; unset MATCHLOCK_OPTION_$number"
    number=$((number + 1))
done
[ -z "${MATCHLOCK_NO_CACHE:-}" ] || set -- "$@" --no-cache
unset MATCHLOCK_OPTIONS MATCHLOCK_NO_CACHE

buildkitd --root /var/lib/buildkit --addr "unix://$socket" --containerd-worker=false \
    --oci-worker=true --oci-worker-snapshotter=native --oci-worker-net=host >"$log" 2>&1 &
daemon=$!
tries=0
until buildctl --addr "unix://$socket" debug workers >/dev/null 2>&1; do
    tries=$((tries + 1))
    if ! kill -0 "$daemon" 2>/dev/null || [ "$tries" -gt 600 ]; then
        tail -n 20 "$log" >&2 || :
        echo "buildkitd has not started" >&2
        exit 125
    fi
    sleep 0.2 2>/dev/null || sleep 1
done

status=0
buildctl --addr "unix://$socket" build --progress=plain --frontend=dockerfile.v0 \
    --local context=/workspace/context --local dockerfile=/workspace/dockerfile \
    --opt filename=Dockerfile "$@" \
    --output type=oci,compression=uncompressed,dest=/workspace/image.tar || status=$?

# So that the cache is whole.
kill "$daemon" 2>/dev/null || :
wait "$daemon" 2>/dev/null || :
exit "$status"
