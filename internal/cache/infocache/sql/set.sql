-- What nobody described has no row to refer to, and is not remembered.
insert or replace into narinfos (cache, hash, text, asked)
select id, ?2, ?3, ?4 from caches where url = ?1;
