delete from narinfos where cache = (select id from caches where url = ?) and hash = ?;
