-- the first path not before the given text
select path from ValidPaths where path >= ? order by path limit 1
