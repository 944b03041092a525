-- sorted, which is how the index has them; the table itself is not read
select id, path from ValidPaths order by path
