#!/usr/bin/env bash
# CPU time per request, side by side with nginx: paired runs, the server on one core, wrk on
# another. Needs nginx, wrk and curl. Prints each pair and the median of the ratios (ours / nginx).
#
#   cargo build --release && benches/compare.sh [PAIRS] [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/.."
pairs=${1:-3} seconds=${2:-3}
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

# nginx's worker may be another user.
chmod 755 "$work"
mkdir "$work/www"
for size in 1K 100K 1M; do head -c $size /dev/urandom >"$work/www/$size"; done
touch -d 2020-01-01 "$work"/www/*
cat >"$work/nginx.conf" <<CONF
daemon off; worker_processes 1; pid $work/pid; error_log $work/error.log;
events { worker_connections 8192; }
http {
    access_log off; open_file_cache max=10000 inactive=60s; keepalive_requests 100000000;
    client_body_temp_path $work/t1; proxy_temp_path $work/t2; fastcgi_temp_path $work/t3;
    uwsgi_temp_path $work/t4; scgi_temp_path $work/t5; root $work/www;
    server { listen 127.0.0.1:18481 backlog=4096; sendfile off; output_buffers 1 128k; }
    server { listen 127.0.0.1:18482 backlog=4096; sendfile on; sendfile_max_chunk 512k; tcp_nopush on; }
}
CONF
taskset -c 0 nginx -c "$work/nginx.conf" 2>/dev/null &
nginx=$!
taskset -c 0 target/release/tws "$work/www" 18480 --workers 1 -q &
tws=$!
for port in 18480 18481 18482; do
    until (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; do :; done
done
worker=$(pgrep -P $nginx)
# Equal work: the same bytes from all three.
for port in 18480 18481 18482; do
    curl -sf "http://127.0.0.1:$port/1M" | cmp - "$work/www/1M"
done

# Nanoseconds of all threads of a process.
cpu() { cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'; }

# Microseconds per request.
measure() { # PID URL CONNECTIONS
    local before after requests
    before=$(cpu "$1")
    requests=$(taskset -c 1 wrk -t1 -c"$3" -d"$seconds" "$2" | awk '/requests in/ { print $1 }')
    after=$(cpu "$1")
    awk -v d=$((after - before)) -v n="$requests" 'BEGIN { printf "%.2f", d / n / 1000 }'
}

for case in 1K:18481:64 100K:18482:64 1M:18482:32; do
    IFS=: read -r size port connections <<<"$case"
    ratios=()
    for _ in $(seq "$pairs"); do
        ours=$(measure $tws "http://127.0.0.1:18480/$size" "$connections")
        theirs=$(measure "$worker" "http://127.0.0.1:$port/$size" "$connections")
        ratios+=("$(awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "%.2f", a / b }')")
        echo "$size: tws $ours us, nginx $theirs us"
    done
    median=$(printf '%s\n' "${ratios[@]}" | sort -n | sed -n "$(((pairs + 1) / 2))p")
    echo "$size: median ratio $median"
done
