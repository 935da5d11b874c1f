# One quick benchmark: a table and its JSON; unknown names and devices are errors.
npos bench --only augment --threads 1 >table 2>/dev/null || echo "bench: $?"
grep -oE '^augment +[0-9.]+ images/s' table | sed -E 's/ +[0-9.]+/ N/'
npos bench --only augment --threads 1 --json 2>/dev/null | tr -d ' \n' |
    grep -oE '"(schema|name|unit|device|shape|precision|value)":' | sort
npos bench --only augmented
echo "-> $?"
npos bench --device gpu
echo "-> $?"
