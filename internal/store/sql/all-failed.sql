select path from FailedPaths order by path
