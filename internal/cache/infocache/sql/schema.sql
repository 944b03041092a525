-- One transaction, so that nobody sees half of it; what an older layout left goes.
begin immediate;
drop table if exists narinfos;
drop table if exists caches;
drop table if exists pruned;
create table caches (
    id integer primary key,
    url text unique not null,
    info text,             -- nix-cache-info
    asked integer not null -- when, in seconds since 1970
);
create table narinfos (
    cache integer not null references caches (id),
    hash text not null,    -- the hash part of the path
    text text,             -- the narinfo; null: there was none
    asked integer not null,
    primary key (cache, hash)
) without rowid;
create table pruned (at integer not null);
insert into pruned values (unixepoch());
pragma user_version = 1;
commit;
