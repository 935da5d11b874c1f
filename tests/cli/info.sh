# The table and the JSON name the same things; --json - and --json FILE write the same.
npos info >table
grep -oE '^(npos|recipes|cpu|cuda|reference|libpng|zlib) ' table | tr -d ' '
npos info --json >a.json
npos info --json b.json
npos info --json=- >c.json
cmp a.json b.json
cmp a.json c.json
tr -d ' \n' <a.json | grep -oE '"(schema|version|compiler|processors|devices|features|libraries|recipes)":' |
    tr -d '"\n'
echo
tr -d ' \n' <a.json | grep -oE '"name":"[a-z]*","available":(true|false)'
