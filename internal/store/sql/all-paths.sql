select path from ValidPaths order by path
