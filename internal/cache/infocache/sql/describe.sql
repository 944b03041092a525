select info, asked from caches where url = ?;
