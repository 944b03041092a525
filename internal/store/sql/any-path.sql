select path from ValidPaths limit 1
