-- tells how large the table is, roughly, without reading it
select coalesce(max(id), 0) from ValidPaths
