-- What only this program keeps; losing the file loses no path. The version of
-- this schema is the file's user_version.
create table if not exists FailedPaths (
    path    text primary key not null,
    time    integer not null,
    drv     text not null default '',
    message text not null default '',
    log     text not null default '' -- last lines of the builder's output, joined by line feeds
) without rowid;
