select text, narinfos.asked from narinfos join caches on cache = id where url = ? and hash = ?;
