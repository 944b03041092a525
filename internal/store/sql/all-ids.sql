select id, path from ValidPaths order by id
