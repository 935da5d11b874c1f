# The table and the JSON name the same things; --json - and --json FILE write the same.
npos info >table
grep -oE '^(npos|recipes|cpu|cuda|reference|libpng|zlib) ' table
npos info --json >a.json
npos info --json b.json
npos info --json=- >c.json
cmp a.json b.json
cmp a.json c.json
python3 -c 'pass' 2>/dev/null || exit 0
python3 - <<'END'
import json
info = json.load(open("a.json"))
assert info["schema"] == 1 and info["version"]
devices = {device["name"]: device for device in info["devices"]}
assert set(devices) == {"cpu", "cuda", "reference"}
assert devices["cpu"]["available"] and devices["reference"]["available"]
assert "fp32" in devices["cpu"]["precisions"]
assert all(device["available"] or device["reason"] for device in info["devices"])
assert info["libraries"]["zlib"]
END
