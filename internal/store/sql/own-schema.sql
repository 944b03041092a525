-- What only this program keeps; losing the file loses no path.
create table if not exists FailedPaths (
    path text primary key not null,
    time integer not null
) without rowid;
